"""GFN2-xTB labels of molecules drawn from lists of SMILES.

    OMP_NUM_THREADS=1 python -m recipes.gfn2_labels LIST... -o FOLDER

Each molecule gets the geometry that molformer gives to a SMILES, and the labels of `data/label_molecules.py`: orbital
energies, dipole, charges, atomisation energy and forces, at the level of GFN2-xTB. Equally many come from each list.
Ions and rare elements are drawn more often than the lists have them, and some acids and amines lose or gain a proton.
The dipole of an ion is about the mean position of its atoms.

Finished parts are kept in FOLDER, so that a run that was stopped goes on where it was; `--minutes` ends it early.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Annotated

import typer
from rdkit import Chem, rdBase

from data import label_molecules
from data.label_molecules import LABELS, SOURCE, Failure, attempt, read_failures, write_failures
from molformer.data.conformers import (
    ConformerPolicy,
    canonical_graph,
    canonical_smiles,
    embed_smiles,
    largest_part,
)
from molformer.data.readers import read_file
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Structure
from molformer.elements import number_of
from molformer.errors import InputError, MolformerError
from molformer.units import factor

ELEMENTS = frozenset(map(number_of, ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I")))
RARE = frozenset(map(number_of, ("B", "Si", "P", "Se", "I")))
UNPAIRED = {5: 1, 14: 2, 15: 3, 34: 2, 35: 1, 53: 1}
"""Unpaired electrons of isolated atoms that `label_molecules.UNPAIRED` lacks, by atomic number."""
WEIGHT = 10.0
"""How much more often an ion or a molecule with a rare element is drawn."""
IONISED = 0.5
"""Share of the acids and amines that are drawn without, or with another, proton."""
ACID, AMINE = (
    Chem.MolFromSmarts("[OX2H1][CX3]=O"),
    Chem.MolFromSmarts("[NX3;+0;!$(N[#6,#7,#15,#16]=,:,#[!#1]);!$(N[!#6;!#1])]"),
)
PREFIX = "gfn2_"
"""Begins the names of the labels, which a store beside it may have at another level of theory."""
MAX_CHARGE = 2
MAX_FORCE = 15.0
"""Largest force on an atom, eV/Å: geometries are those that a SMILES gets, rough ones included, but not broken ones."""
POOL = 5
"""Molecules of a list that are looked at for each that is drawn."""
PART = 50
"""Molecules that are kept together while a run is on its way."""


@dataclass(frozen=True)
class Drawn:
    """A molecule to be labelled: its list and row there, its SMILES, and its number."""

    name: str
    smiles: str
    index: int


def prepared(smiles: str, rng: random.Random, max_atoms: int) -> tuple[str, bool] | None:
    """The largest part of a molecule, perhaps with another number of protons, and whether it is one to draw more often.

    None if it is too large, a radical, too highly charged, or has other elements than `ELEMENTS`.

    Raises:
        InputError: it is not a valid SMILES.
    """
    mol = Chem.MolFromSmiles(largest_part(smiles))
    if mol is None or sum(1 + atom.GetTotalNumHs() for atom in mol.GetAtoms()) > max_atoms:
        return None
    elements = {atom.GetAtomicNum() for atom in mol.GetAtoms()}
    if not elements <= ELEMENTS or any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        return None
    charge = Chem.GetFormalCharge(mol)
    if not charge and rng.random() < IONISED:
        ionise(mol, rng)
    if abs(charge) > MAX_CHARGE:
        return None
    return canonical_smiles(Chem.MolToSmiles(mol)), bool(charge or elements & RARE)


def ionise(mol: Chem.Mol, rng: random.Random) -> None:
    """Take a proton from an acid, or give one to an amine, in place; a molecule with neither stays as it is.

    Example:
        >>> mol = Chem.MolFromSmiles("CCC(=O)O")
        >>> ionise(mol, random.Random(0))
        >>> Chem.MolToSmiles(mol)
        'CCC(=O)[O-]'
    """
    sites = [
        (match[0], charge) for group, charge in ((ACID, -1), (AMINE, 1)) for match in mol.GetSubstructMatches(group)
    ]
    if sites:
        index, charge = rng.choice(sites)
        atom = mol.GetAtomWithIdx(index)
        atom.SetNumExplicitHs(atom.GetTotalNumHs() + charge)
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(charge)
        Chem.SanitizeMol(mol)


def draw(path: Path, count: int, seed: int, max_atoms: int) -> list[tuple[str, str]]:
    """Name and SMILES of molecules of a list, in the order in which they are labelled; any first part is a sample."""
    entries = [(entry.where, entry.smiles) for entry in read_file(path) if entry.error is None]
    if not entries:
        raise InputError(f"'{path}' has no SMILES")
    rng = random.Random(f"{seed} {path.name}")
    rng.shuffle(entries)
    keyed = []
    with rdBase.BlockLogs():
        for where, smiles in entries[: POOL * count]:
            try:
                found = prepared(smiles, rng, max_atoms)
            except InputError:
                continue
            if found is not None:
                keyed.append((rng.random() / (WEIGHT if found[1] else 1.0), where, found[0]))
    return [(f"{path.name.split('.')[0]} {where.split()[-1]}", smiles) for _, where, smiles in sorted(keyed)[:count]]


def draw_all(paths: Sequence[Path], count: int, seed: int, max_atoms: int) -> list[Drawn]:
    """Molecules of all lists in turn, each once."""
    lists = [draw(path, count // len(paths), seed, max_atoms) for path in paths]
    once: dict[str, str] = {}
    for found in chain(*zip_longest(*lists)):
        if found is not None:
            once.setdefault(found[1], found[0])
    return [Drawn(name, smiles, index) for index, (smiles, name) in enumerate(once.items())]


def label_one(molecule: Drawn) -> Structure | Failure:
    """The molecule with geometry and labels, or why it has none."""
    try:
        structure = embed_smiles(molecule.smiles, ConformerPolicy(), molecule.name)
    except MolformerError as error:
        return Failure(molecule.name, molecule.smiles, "geometry", str(error))
    found = attempt(replace(structure, group=molecule.index), MAX_FORCE)
    return found if isinstance(found, Failure) else about_centre(found)


def about_centre(structure: Structure) -> Structure:
    """The structure with its dipole about the mean position of the atoms; only that of an ion depends on the origin."""
    shift = structure.charge * factor("e·Å", "D") * structure.pos.mean(0)
    return replace(structure, labels=structure.labels | {"dipole": structure.labels["dipole"] - shift})


def label_part(path: Path, molecules: Sequence[Drawn]) -> int:
    """Label some molecules and keep the result; the store appears last and says that the part is complete."""
    results = [label_one(molecule) for molecule in molecules]
    failures = [result for result in results if isinstance(result, Failure)]
    write_failures(path.with_suffix(".csv"), failures)
    write_store(path, (result for result in results if isinstance(result, Structure)), LABELS)
    return len(failures)


def parts_of(count: int, folder: Path) -> dict[Path, range]:
    """Files of the parts and the molecules of each."""
    return {
        folder / f"{start // PART:05d}.safetensors": range(start, min(start + PART, count))
        for start in range(0, count, PART)
    }


def structures(paths: Sequence[Path]) -> Iterator[Structure]:
    """Of all parts, with labels that tell the method by their names."""
    for path in paths:
        for structure in StructureStore(path):
            graph = structure.molecular_graph or canonical_graph(structure.smiles, ConformerPolicy())
            labels = {PREFIX + name: value for name, value in structure.labels.items()}
            yield replace(structure, molecular_graph=graph, labels=labels)


def main(
    lists: Annotated[list[Path], typer.Argument(help="files of SMILES, or tables with a SMILES column; also .gz")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for parts, store and list of failures")],
    count: Annotated[int, typer.Option(help="molecules of all lists together")] = 60_000,
    max_atoms: Annotated[int, typer.Option(help="largest molecule, hydrogens included")] = 50,
    seed: Annotated[int, typer.Option(help="of the draw")] = 7,
    minutes: Annotated[float, typer.Option(help="after which no part is begun, and the store is written")] = 1e9,
) -> None:
    """Draw, label and write `gfn2.safetensors`."""
    label_molecules.UNPAIRED.update(UNPAIRED)
    folder = output / f"{count}-{max_atoms}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = folder / "molecules.tsv"
    if not drawn.exists():
        rows = (f"{molecule.smiles}\t{molecule.name}\n" for molecule in draw_all(lists, count, seed, max_atoms))
        drawn.with_suffix(".part").write_text("".join(rows), encoding="utf-8")
        drawn.with_suffix(".part").replace(drawn)
    rows = [line.split("\t") for line in drawn.read_text(encoding="utf-8").splitlines()]
    molecules = [Drawn(name, smiles, index) for index, (smiles, name) in enumerate(rows)]
    parts = parts_of(len(molecules), folder)
    start, done, end = time.monotonic(), 0, "\r" if os.isatty(1) else "\n"
    for path, rows in parts.items():
        if not path.exists() and time.monotonic() - start < 60 * minutes:
            label_part(path, [molecules[row] for row in rows])
            done += len(rows)
            rate = done / (time.monotonic() - start)
            print(f"{rows.stop} of {len(molecules)} molecules, {rate:.2f} a second", end=end, flush=True)
    made = [path for path in parts if path.exists()]
    failures = [failure for path in made for failure in read_failures(path.with_suffix(".csv"))]
    write_failures(output / "failed.csv", failures)
    labels = [replace(label, name=PREFIX + label.name) for label in LABELS]
    store = write_store(output / "gfn2", structures(made), labels, SOURCE)
    print(f"{len(store)} structures in '{store.path}'; {len(failures)} failed, listed in '{output / 'failed.csv'}'")
    for reason, number in Counter(kind(failure) for failure in failures).most_common():
        print(f"  {number} {reason}")


def kind(failure: Failure) -> str:
    """What failed, without the numbers and names of this molecule."""
    reason = failure.reason.split("' ")[-1].split(":")[0]
    return f"{failure.stage}: " + " ".join(word for word in reason.split() if not any(map(str.isdigit, word)))


if __name__ == "__main__":
    typer.run(main)
