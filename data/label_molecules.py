"""Labels the molecules of `molecules.smi` with GFN2-xTB and writes them to `gfn2.safetensors`.

Each molecule gets the geometry that molformer gives to a SMILES; some get distorted copies of it as well. What could
not be labelled is listed in `failed.csv`. Finished parts are kept in `build/xtb`, so a run that was stopped goes on
where it was. GFN2-xTB: Bannwarth et al. 2019, doi 10.1021/acs.jctc.8b01176; it is run by tblite.

    python data/label_molecules.py
"""

import csv
import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rdkit import Chem
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from molformer import units
from molformer.data import conformers
from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.store import StoreWriter, StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.errors import MolformerError
from molformer.units import factor

HERE = Path(__file__).parent
METHOD = "GFN2-xTB"
ACCURACY = 0.01
"""Threshold of self-consistency, relative to tblite's; at 0.01 the energy is converged to 1e-8 Ha."""
POLICY = ConformerPolicy()
SPREADS = (0.03, 0.08)
"""Range of the standard deviation of the noise on distorted positions, Å."""
COPIES = 4
"""Distorted copies of a molecule that has any."""
MAX_FORCE = 4.5
"""Largest force on an atom of a relaxed geometry, eV/Å; above it the force field has failed, see the README."""
MAX_FORCE_DISTORTED = 30.0
"""The same for distorted geometries; above it two atoms have come too close."""
PART = 50
"""Molecules whose results are kept together while a run is on its way."""
UNPAIRED = {1: 1, 6: 2, 7: 3, 8: 2, 9: 1, 16: 2, 17: 1}
"""Unpaired electrons of an isolated atom, by atomic number."""
LABELS = (
    Label("energy", "eV", "extensive"),
    Label("atomization_energy", "eV", "extensive"),
    Label("homo", "eV", "intensive"),
    Label("lumo", "eV", "intensive"),
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("forces", "eV/Å", "forces"),
    Label("charges", "e", "charges"),
)
SOURCE = (
    f"{METHOD} (tblite {version('tblite')}) at {POLICY.method} geometries (RDKit {version('rdkit')}); "
    "molecules and labels by the molformer developers, MIT licence"
)


@dataclass(frozen=True)
class Task:
    """A molecule to be labelled.

    Args:
        index: row of the molecule in the list, from 0.
        smiles: the molecule.
        copies: distorted copies wanted.
        seed: of the distortions of all molecules.
    """

    index: int
    smiles: str
    copies: int
    seed: int


@dataclass(frozen=True)
class Failure:
    """A geometry that is not in the set: of which molecule, where it failed and why."""

    name: str
    smiles: str
    stage: str
    reason: str


class LabelError(Exception):
    """A structure that cannot be labelled."""


def label(structure: Structure) -> Structure:
    """The structure with all `LABELS`, computed at its positions.

    Args:
        structure: a closed-shell molecule.

    Raises:
        LabelError: the molecule is a radical, or the calculation does not converge.

    Example:
        >>> water = label(Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> round(float(np.linalg.norm(water.labels["dipole"])), 1)
        2.3
    """
    if structure.spin != 1:
        raise LabelError(f"multiplicity {structure.spin}: homo and lumo are defined for closed shells only")
    result = single_point(structure.numbers, structure.pos, structure.charge)
    energy = result.get("energy") * factor("Ha", "eV")
    homo, lumo = frontier_orbitals(result)
    labels = {
        "energy": energy,
        "atomization_energy": sum(atom_energy(number) for number in structure.numbers.tolist()) - energy,
        "homo": homo,
        "lumo": lumo,
        "gap": lumo - homo,
        "dipole": result.get("dipole") * factor("e·a0", "D"),
        "forces": -result.get("gradient") * factor("Ha/a0", "eV/Å"),
        "charges": result.get("charges"),
    }
    return replace(structure, labels=labels)


def single_point(numbers: np.ndarray, pos: np.ndarray, charge: int = 0, unpaired: int = 0) -> Result:
    """A GFN2-xTB calculation, in atomic units.

    Args:
        numbers: atomic numbers (n,).
        pos: positions (n, 3), Å.
        charge: total charge, e.
        unpaired: unpaired electrons.

    Raises:
        LabelError: it does not converge.
    """
    calculator = Calculator(METHOD, numbers, pos * factor("Å", "a0"), charge=charge, uhf=unpaired)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", ACCURACY)
    try:
        return calculator.singlepoint()
    except TBLiteRuntimeError as error:
        raise LabelError(" ".join(str(error).split())) from None


def frontier_orbitals(result: Result) -> tuple[float, float]:
    """Energies of the highest occupied and lowest unoccupied orbital of a closed-shell molecule, eV."""
    energies = result.get("orbital-energies") * factor("Ha", "eV")
    pairs = round(float(result.get("orbital-occupations").sum())) // 2
    return float(energies[pairs - 1]), float(energies[pairs])


@cache
def atom_energy(number: int) -> float:
    """Energy of an isolated atom in its spin ground state, eV."""
    result = single_point(np.array([number]), np.zeros((1, 3)), unpaired=UNPAIRED[number])
    return float(result.get("energy") * factor("Ha", "eV"))


def distort(structure: Structure, rng: np.random.Generator) -> Structure:
    """The structure with Gaussian noise on its positions, of a standard deviation drawn from `SPREADS`."""
    noise = rng.uniform(*SPREADS) * rng.standard_normal(structure.pos.shape)
    return replace(structure, pos=structure.pos + noise, geometry=f"{structure.geometry}, distorted")


def as_stored(structure: Structure) -> Structure:
    """The structure at the float32 positions that the store keeps, so that labels belong to exactly those."""
    return replace(structure, pos=structure.pos.astype(np.float32))


def attempt(structure: Structure, max_force: float) -> Structure | Failure:
    """The labelled structure, or why it is not in the set.

    Args:
        structure: what is to be labelled.
        max_force: largest force on an atom that is accepted, eV/Å.
    """
    try:
        labelled = label(as_stored(structure))
    except LabelError as error:
        return Failure(structure.name, structure.smiles, METHOD, str(error))
    force = float(np.linalg.norm(labelled.labels["forces"], axis=1).max())
    if force > max_force:
        reason = f"force of {force:.1f} eV/Å on an atom, more than {max_force:g}"
        return Failure(structure.name, structure.smiles, "excluded", reason)
    return labelled


def label_molecule(task: Task) -> list[Structure | Failure]:
    """All geometries of a molecule; distorted ones only if the relaxed one is in the set."""
    name = f"molecule {task.index}"
    try:
        relaxed = replace(embed_smiles(task.smiles, POLICY, name), group=task.index)
    except MolformerError as error:
        return [Failure(name, task.smiles, "geometry", str(error))]
    results = [attempt(relaxed, MAX_FORCE)]
    if isinstance(results[0], Structure):
        for copy in range(1, task.copies + 1):
            distorted = distort(relaxed, np.random.default_rng([task.seed, task.index, copy]))
            results.append(attempt(replace(distorted, name=f"{name}, distorted {copy}"), MAX_FORCE_DISTORTED))
    return results


def choose_distorted(molecules: Sequence[str], number: int, seed: int) -> set[int]:
    """Rows of the molecules that get distorted copies: as many as there are of every size, as far as they reach."""
    rng = random.Random(seed)
    by_size: dict[int, list[int]] = {}
    for index, smiles in enumerate(molecules):
        by_size.setdefault(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms(), []).append(index)
    for rows in by_size.values():
        rng.shuffle(rows)
    chosen: set[int] = set()
    while len(chosen) < number and any(by_size.values()):
        for rows in by_size.values():
            if rows and len(chosen) < number:
                chosen.add(rows.pop())
    return chosen


def label_part(path: Path, tasks: Sequence[Task]) -> int:
    """Label some molecules and keep the result; the store appears last and says that the part is complete."""
    results = [result for task in tasks for result in label_molecule(task)]
    write_failures(path.with_suffix(".csv"), [result for result in results if isinstance(result, Failure)])
    with StoreWriter(path, LABELS, precision="float64") as writer:
        for result in results:
            if isinstance(result, Structure):
                writer.add(result)
    return len(tasks)


def label_all(tasks: Sequence[Task], work: Path, workers: int) -> list[Path]:
    """Label what is not yet in the folder `work`; the parts, in the order of the list."""
    starts = range(0, len(tasks), PART)
    parts = {work / f"{start // PART:04d}.safetensors": tasks[start : start + PART] for start in starts}
    missing = {path: part for path, part in parts.items() if not path.exists()}
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    with Progress(*columns) as progress, pool:
        done = len(tasks) - sum(map(len, missing.values()))
        bar = progress.add_task("labelling molecules", total=len(tasks), completed=done)
        try:
            for future in as_completed([pool.submit(label_part, path, part) for path, part in missing.items()]):
                progress.advance(bar, future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return list(parts)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "only workers run this"
    parent.join()
    os._exit(1)


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures to a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Failure))
        writer.writerows(astuple(failure) for failure in failures)


def read_failures(path: Path) -> list[Failure]:
    """Read what `write_failures` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        return [Failure(**row) for row in csv.DictReader(file)]


def fingerprint(tasks: Sequence[Task]) -> str:
    """Name of the folder of parts: they are used again only for the same tasks, code and versions."""
    code = [Path(file).read_text(encoding="utf-8") for file in (__file__, conformers.__file__, units.__file__)]
    parts = (*code, SOURCE, repr(tasks))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _structures(parts: Iterable[Path]) -> Iterator[Structure]:
    for path in parts:
        yield from StructureStore(path)


def main(
    molecules: Annotated[Path, typer.Option(help="One SMILES a line.")] = HERE / "molecules.smi",
    output: Annotated[Path, typer.Option(help="The store to be written.")] = HERE / "gfn2.safetensors",
    failed: Annotated[Path, typer.Option(help="The list of what failed.")] = HERE / "failed.csv",
    work: Annotated[Path, typer.Option(help="Where finished parts are kept.")] = HERE.parent / "build" / "xtb",
    workers: Annotated[int, typer.Option(help="Processes; the result does not depend on it.")] = 2,
    distorted: Annotated[int, typer.Option(help="Molecules with distorted copies.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the choice and of the distortions.")] = 7,
) -> None:
    """Label the list of molecules."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers inherit it; molecules this small do not gain from threads
    smiles = molecules.read_text(encoding="utf-8").split()
    chosen = choose_distorted(smiles, distorted, seed)
    tasks = [Task(index, text, COPIES if index in chosen else 0, seed) for index, text in enumerate(smiles)]
    folder = work / fingerprint(tasks)
    try:
        parts = label_all(tasks, folder, workers)
    except KeyboardInterrupt:
        print(f"stopped; finished parts are in {folder}: the same command goes on from there")
        raise typer.Exit(130) from None
    store = write_store(output, _structures(parts), LABELS, SOURCE)
    failures = [failure for path in parts for failure in read_failures(path.with_suffix(".csv"))]
    write_failures(failed, failures)
    print(f"{len(store)} structures written to {output}, sha256 {store.manifest['sha256']}; {len(failures)} failed")


if __name__ == "__main__":
    typer.run(main)
