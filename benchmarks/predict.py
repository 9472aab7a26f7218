"""SMILES in, numbers out, from end to end: `python -m benchmarks.predict [--quick] [--model FOLDER]`.

Against the least that any program must do: parse, add hydrogens, ETKDGv3 and MMFF94 by RDKit alone. Targets: one
molecule in at most twice that time, many on all cores at half the bare rate or more. Without --model it is the preset
`small` with random weights, on which speed does not depend. All molecules are of elements that the model knows. With
--cpu-time, what all processes used is added up.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine, report
from benchmarks.peers import protocol
from benchmarks.peers.protocol import Clock

if TYPE_CHECKING:
    from molformer.inference.prediction import Prediction

SMILES_FILE = machine.ROOT / "data" / "molecules.smi"
ROUNDS = 3


def bare(smiles: str) -> bool:
    """What any script does for a geometry."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = AllChem.ETKDGv3()
    parameters.randomSeed = 7
    if AllChem.EmbedMolecule(mol, parameters) < 0:
        return False
    return AllChem.MMFFOptimizeMolecule(mol, maxIters=1000) == 0


def sample(count: int, elements: Sequence[int] = ()) -> list[str]:
    """SMILES of the embedded set, evenly spaced; only of some elements if these are given."""
    from rdkit import Chem

    def known(smiles: str) -> bool:
        return all(atom.GetAtomicNum() in elements for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms())

    smiles = [line.split()[0] for line in SMILES_FILE.read_text().splitlines()]
    if elements:
        smiles = list(filter(known, smiles))
    return [smiles[index * len(smiles) // count] for index in range(count)]


def write_model(folder: str) -> None:
    """A model folder of the preset `small` with random weights."""
    from molformer.data.structure import Label
    from molformer.models import PropertyModel, preset

    targets = [Label("energy", "eV", "extensive"), Label("gap", "eV", "intensive"), Label("dipole", "D", "vector")]
    PropertyModel(preset("small"), targets).save(folder)


def cold_start(model: str, repeats: int, clock: Clock) -> list[list[str]]:
    """A new process that predicts one molecule, and what imports alone take of it."""
    whole = [sys.executable, "-m", "molformer", "predict", "CCO", "--model", model]
    imports = [sys.executable, "-c", "import torch, rdkit.Chem.AllChem"]
    times, alone = [], []
    for _ in range(repeats):
        times.append(_process(whole, clock))
        alone.append(_process(imports, clock))
    return [
        ["molformer predict CCO, a new process", report.duration(statistics.median(times))],
        ["python -c 'import torch, rdkit'", report.duration(statistics.median(alone))],
    ]


def one_by_one(model: str, smiles: Sequence[str], clock: Clock) -> list[list[str]]:
    """One molecule at a time in a running process, in turn with RDKit alone."""
    from molformer.data.conformers import embed_smiles
    from molformer.inference.predictor import Predictor
    from molformer.models.forward import run

    predictor = Predictor.load(model, "cpu")
    check(predictor.predict(list(smiles)))
    bare(smiles[0])
    times: dict[str, list[float]] = {"predict": [], "bare": [], "geometry": [], "model": []}
    for text in smiles:
        # The fastest of a few tries each: other work on the machine then weighs on neither.
        best = dict.fromkeys(times, float("inf"))
        for _ in range(ROUNDS):
            structure = embed_smiles(text)
            steps: dict[str, Callable[[], object]] = {
                "predict": partial(predictor.predict, text),
                "bare": partial(bare, text),
                "geometry": partial(embed_smiles, text),
                "model": partial(run, predictor.model, [structure], predictor.model.targets),
            }
            for name, step in steps.items():
                best[name] = min(best[name], _seconds(step, clock))
        for name, value in best.items():
            times[name].append(value)
    totals = {name: sum(values) / len(smiles) for name, values in times.items()}
    ratio = totals["predict"] / totals["bare"]
    return [
        ["one molecule, SMILES to values", report.duration(totals["predict"])],
        ["RDKit's conformer alone", report.duration(totals["bare"])],
        ["ratio (target: at most 2.5)", f"{ratio:.2f} {_verdict(ratio <= 2.5)}"],
        ["of which: geometry", report.duration(totals["geometry"])],
        ["of which: graph and model", report.duration(totals["model"])],
    ]


def many(model: str, smiles: Sequence[str], cores: int, rounds: int, clock: Clock) -> list[list[str]]:
    """A list of SMILES on all cores, in turn with a pool of processes that do nothing but RDKit's part."""
    from molformer.inference.predictor import Predictor

    predictor = Predictor.load(model, "cpu")
    predictor.predict(smiles[0])
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(_bare_pool(smiles, cores, clock))
        now = _with_children if clock == "cpu" else time.perf_counter
        start = now()
        predictions = predictor.predict(list(smiles), processes=cores)
        ours.append(now() - start)
        check(predictions)
    share = statistics.median(theirs) / statistics.median(ours)
    unit = "molecules/s of processor time" if clock == "cpu" else "molecules/s"
    return [
        [f"{len(smiles):,} SMILES, {cores} processes", f"{len(smiles) / statistics.median(ours):.0f} {unit}"],
        ["RDKit's conformers alone, as many processes", f"{len(smiles) / statistics.median(theirs):.0f} {unit}"],
        ["share (target: at least 50 %)", f"{100 * share:.0f} % {_verdict(share >= 0.5)}"],
    ]


def check(predictions: Sequence["Prediction"]) -> None:
    """Every molecule must have its values: what a model refuses costs nothing, and would be counted as fast."""
    refused = [prediction for prediction in predictions if not prediction.values]
    if refused:
        found = f"{len(refused)} of {len(predictions)} molecules have no values"
        raise machine.ProgramFailed(f"{found}: {refused[0].status}")


def _bare_pool(smiles: Sequence[str], cores: int, clock: Clock) -> float:
    """Seconds in which a pool that is running makes all geometries; with its start if it is the processor's time."""
    start = _with_children()
    with get_context("spawn").Pool(cores) as pool:
        pool.map(bare, smiles[: 2 * cores], chunksize=1)
        seconds = _seconds(partial(pool.map, bare, smiles, chunksize=8))
        pool.close()
        pool.join()
    return _with_children() - start if clock == "cpu" else seconds


def _with_children() -> float:
    """Seconds of the processor that this process and those that it has started, and that have ended, have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _verdict(reached: bool) -> str:
    return "(reached)" if reached else "(missed)"


def _seconds(work: Callable[[], object], clock: Clock = "wall") -> float:
    now = protocol.clock(clock)
    start = now()
    work()
    return now() - start


def _process(command: Sequence[str], clock: Clock) -> float:
    now = _with_children if clock == "cpu" else time.perf_counter
    start = now()
    subprocess.run(command, cwd=machine.ROOT, check=True, stdout=subprocess.DEVNULL)
    return now() - start


def main() -> None:
    """Print the table."""
    arguments = report.arguments(
        __doc__, ("--model", {"type": Path, "help": "model or run folder; random weights if not given"})
    )
    import torch

    from molformer.models.property import load_model

    torch.set_num_threads(arguments.threads)
    print(machine.describe(arguments.threads, arguments.clock) + "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = str(arguments.model or folder)
        if arguments.model is None:
            write_model(folder)
        quick = arguments.quick
        clock = arguments.clock
        rows = cold_start(model, 1 if quick else 5, clock)
        elements = load_model(model, "cpu").domain.elements
        rows += one_by_one(model, sample(10 if quick else 100, elements), clock)
        many_smiles = sample(200 if quick else 1000, elements)
        rows += many(model, many_smiles, os.cpu_count() or 1, 1 if quick else ROUNDS, clock)
    print(report.table(["what", "figure"], rows))


if __name__ == "__main__":
    main()
