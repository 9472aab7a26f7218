"""Prints what is in `gfn2.safetensors` and `failed.csv` as the Markdown tables of the README.

The README also says what the labels are; here are only their numbers.

    python data/summarise.py
"""

import csv
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from molformer.data.store import StructureStore
from molformer.data.structure import Label, Structure
from molformer.elements import SYMBOLS

HERE = Path(__file__).parent


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    Example:
        >>> print(table(("size", "molecules"), [(1, 6)]))
        | size | molecules |
        |---|---|
        | 1 | 6 |
        <BLANKLINE>
    """
    head = "| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|\n"
    return head + "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)


def is_distorted(structure: Structure) -> bool:
    """Whether the geometry is a distorted copy."""
    return structure.geometry.endswith("distorted")


def heavy_atoms(structure: Structure) -> int:
    """Atoms other than hydrogen."""
    return int((structure.numbers > 1).sum())


def size_table(structures: Sequence[Structure]) -> str:
    """Molecules and distorted copies of every number of heavy atoms."""
    relaxed = Counter(heavy_atoms(structure) for structure in structures if not is_distorted(structure))
    distorted = Counter(heavy_atoms(structure) for structure in structures if is_distorted(structure))
    rows = [(size, relaxed[size], distorted[size]) for size in sorted(relaxed)]
    return table(("heavy atoms", "molecules", "distorted copies"), rows)


def element_table(structures: Sequence[Structure]) -> str:
    """Molecules that contain an element, and atoms of it in the whole set."""
    molecules = [set(structure.numbers.tolist()) for structure in structures if not is_distorted(structure)]
    atoms = Counter(number for structure in structures for number in structure.numbers.tolist())
    rows = []
    for number in sorted(atoms):
        count = sum(number in molecule for molecule in molecules)
        rows.append((SYMBOLS[number], count, f"{count / len(molecules):.1%}", atoms[number]))
    return table(("element", "molecules with it", "of all", "atoms"), rows)


def label_table(structures: Sequence[Structure], labels: Iterable[Label]) -> str:
    """Mean, standard deviation, smallest and largest value of every label."""
    rows = []
    for label in labels:
        what = {"vector": " (length)", "forces": " (component)"}.get(label.kind, "")
        for kind, chosen in (("relaxed", False), ("distorted", True)):
            values = [structure.labels[label.name] for structure in structures if is_distorted(structure) == chosen]
            numbers = np.concatenate([_numbers(value, label) for value in values])
            figures = (f"{figure:.3f}" for figure in (numbers.mean(), numbers.std(), numbers.min(), numbers.max()))
            rows.append((label.name + what, label.unit, kind, *figures))
    return table(("label", "unit", "geometries", "mean", "sd", "min", "max"), rows)


def _numbers(value: np.ndarray, label: Label) -> np.ndarray:
    return np.linalg.norm(value, keepdims=True) if label.kind == "vector" else np.ravel(value)


def failure_table(path: Path) -> str:
    """How many geometries are not in the set, for each stage at which they were lost."""
    lost: dict[tuple[str, str], list[str]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            what = "distorted copies" if "distorted" in row["name"] else "molecules"
            lost.setdefault((what, row["stage"]), []).append(f"`{row['smiles']}`")
    rows = [(what, stage, len(smiles), ", ".join(smiles)) for (what, stage), smiles in lost.items()]
    return table(("what", "stage", "number", "SMILES"), rows)


def main(
    store_path: Annotated[Path, typer.Option("--store", help="The labelled set.")] = HERE / "gfn2.safetensors",
    failed: Annotated[Path, typer.Option(help="The list of what failed.")] = HERE / "failed.csv",
) -> None:
    """Print the tables of the README."""
    store = StructureStore(store_path)
    store.verify()
    structures = list(store)
    distorted = sum(map(is_distorted, structures))
    print(f"source: {store.manifest['source']}; Python {platform.python_version()}")
    print(f"sha256: {store.manifest['sha256']}; file: {store.path.stat().st_size / 1e6:.1f} MB")
    print(f"{len(structures) - distorted} molecules, {distorted} distorted copies of ", end="")
    print(f"{len({structure.group for structure in structures if is_distorted(structure)})} of them, ", end="")
    print(f"{store.manifest['atoms']} atoms\n")
    print(size_table(structures))
    print(element_table(structures))
    print(label_table(structures, store.labels.values()))
    print(failure_table(failed))


if __name__ == "__main__":
    typer.run(main)
