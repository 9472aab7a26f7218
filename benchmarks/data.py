"""Speed and memory of the data path: `python benchmarks/data.py [--folder DIR]`.

Each row runs in a process of its own, so that the peak memory is its own. DIR holds `qm9.npz` and
`moses_smiles.csv.gz`; rows whose file is absent say so.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 256
EMBEDDED = 1500  # molecules, after WARM ones with which the processes come up
WARM = 200


def collate(folder: Path) -> str:
    """Batches of 256 QM9 molecules from a store."""
    import numpy as np

    from molformer.data.datamodule import StoreDataset
    from molformer.data.importing import import_inputs

    with tempfile.TemporaryDirectory() as place:
        store = import_inputs([folder / "qm9.npz"], f"{place}/qm9").store
        dataset = StoreDataset(store, np.arange(len(store)), list(store.labels.values()))
        order = np.random.default_rng(0).permutation(len(store))[: 50 * BATCH].reshape(50, BATCH)
        times = [_seconds(lambda rows=rows: dataset[rows.tolist()]) for rows in order]
    return f"{1e3 * statistics.median(times):.2f} ms a batch of {BATCH} (median of 50)"


def neighbours(folder: Path) -> str:
    """Neighbours of a cloud of 100,000 points."""
    import torch

    from molformer.graph import knn_edges, radius_edges

    torch.manual_seed(0)
    pos, ptr = torch.rand(100_000, 3), torch.tensor([0, 100_000])
    radius = (16 / (100_000 * 4 / 3 * torch.pi)) ** (1 / 3)
    by_number = min(_seconds(lambda: knn_edges(pos, ptr, 16)) for _ in range(3))
    by_radius = min(_seconds(lambda: radius_edges(pos, ptr, float(radius))) for _ in range(3))
    return f"k = 16: {by_number:.2f} s; radius with 16 on average: {by_radius:.2f} s"


def import_qm9(folder: Path) -> str:
    """Import of the whole of QM9 from an NPZ file."""
    from molformer.data.importing import import_inputs

    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        result = import_inputs([folder / "qm9.npz"], f"{place}/qm9")
        seconds = time.perf_counter() - start
    return f"{len(result.store)} molecules in {seconds:.1f} s"


def stream(folder: Path) -> str:
    """A table of SMILES read row by row, without embedding."""
    from molformer.data.readers import read_file

    start = time.perf_counter()
    rows = errors = 0
    for entry in read_file(folder / "moses_smiles.csv.gz"):
        rows += 1
        errors += entry.error is not None
    return f"{rows} rows, {errors} with errors, in {time.perf_counter() - start:.1f} s"


def embed(folder: Path) -> str:
    """Conformers by the package's workers, and by a bare loop over RDKit in the same number of processes."""
    from multiprocessing import get_context

    from molformer.data.conformer_generation import with_geometry
    from molformer.data.readers import Entry

    with open(Path(__file__).parents[1] / "data" / "molecules.smi") as file:
        smiles = [line.split()[0] for line in file][-EMBEDDED - WARM :]
    cores = os.cpu_count() or 1
    entries = [Entry(text, smiles=text) for text in smiles]
    with get_context("spawn").Pool(cores) as pool:
        pool.map(_bare, smiles[:WARM])
        bare = EMBEDDED / _seconds(lambda: pool.map(_bare, smiles[WARM:], chunksize=8))
    stamps = [time.perf_counter() for _ in with_geometry(entries, processes=cores)]
    rate = EMBEDDED / (stamps[-1] - stamps[WARM - 1])
    return f"{rate:.0f} molecules/s, bare loop {bare:.0f}: {100 * rate / bare:.0f} %"


def _bare(smiles: str) -> bool:
    """What any script does: parse, add hydrogens, ETKDGv3, MMFF94."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = AllChem.ETKDGv3()
    parameters.randomSeed = 7
    AllChem.EmbedMolecule(mol, parameters)
    return AllChem.MMFFOptimizeMolecule(mol, maxIters=1000) == 0


ROWS: dict[str, tuple[Callable[[Path], str], str]] = {
    "collate": (collate, "qm9.npz"),
    "neighbours": (neighbours, ""),
    "import": (import_qm9, "qm9.npz"),
    "stream": (stream, "moses_smiles.csv.gz"),
    "embed": (embed, ""),
}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table, a process a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"))
    parser.add_argument("--row", choices=ROWS, help="one row, in this process")
    arguments = parser.parse_args()
    if arguments.row:
        text = ROWS[arguments.row][0](arguments.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"text": text, "peak": peak}))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, (work, needed) in ROWS.items():
        if needed and not (arguments.folder / needed).is_file():
            print(f"{name:12} not measured: there is no {arguments.folder / needed}")
            continue
        command = [sys.executable, __file__, "--folder", str(arguments.folder), "--row", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:12} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:12} {result['text']}; peak {result['peak']:.2f} GB   ({work.__doc__.splitlines()[0]})")


if __name__ == "__main__":
    main()
