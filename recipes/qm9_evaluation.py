"""Errors of a model of QM9 by geometry, on test molecules: `python -m recipes.qm9_evaluation MODEL qm9_geometries`.

The geometries of the same conformer as that of the labels are the DFT one, those relaxed from it, and these refined by
the model; those from a SMILES are generated as for any user, and mostly another conformer. All rows are for the same
molecules but those of GFN2-xTB, which few have. Letters: n molecules.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolAlign

from molformer.data.conformers import canonical_smiles
from molformer.data.splits import SplitPolicy, make_split
from molformer.data.store import StructureStore
from molformer.data.structure import Label, Structure
from molformer.inference.predictor import Predictor
from molformer.inference.refinement import refine
from molformer.inference.request import is_displacement
from recipes.qm9_geometries import aligned, conformer_of, rmsd, with_orders

SPLIT = SplitPolicy(fractions=(105_744, 5_000, 10_000))

XTB = 200
"""Molecules whose SMILES are relaxed by GFN2-xTB."""

RMSDS = 300
"""Molecules of which RMSDs are taken where atoms have to be matched."""

TITLES = {"given": "DFT", "mmff": "DFT conformer, MMFF94", "gfn2": "DFT conformer, GFN2-xTB"}

_MATCHES = 2000  # assignments of atoms that are tried for an RMSD


@dataclass(frozen=True)
class Column:
    """Results for one kind of geometry.

    Args:
        errors: absolute ones by target, NaN where a label is missing (n,).
        seconds: a molecule.
        rmsd: to the DFT geometry, of heavy and of all atoms, NaN where atoms could not be matched (m, 2), Å.
    """

    errors: dict[str, np.ndarray]
    seconds: float
    rmsd: np.ndarray


def pairs_of(store: StructureStore, split: SplitPolicy, count: int) -> dict[str, list[tuple[Structure, Structure]]]:
    """Geometries of test molecules with their DFT geometries, by method; of the same molecules but for `gfn2`."""
    names, rows = store.manifest["geometries"], {}
    for row in make_split(store, split).test.tolist():
        rows.setdefault(names[store.column("geometry")[row]], {})[int(store.groups[row])] = row
    both = sorted(rows["given"].keys() & rows["mmff"].keys())
    chosen = np.random.default_rng(0).permutation(both)[:count].tolist()
    groups = {"given": chosen, "mmff": chosen, "gfn2": sorted(rows.get("gfn2", {}))}
    return {
        name: [(store[rows[name][group]], store[rows["given"][group]]) for group in members]
        for name, members in groups.items()
        if members
    }


def heavy_and_all(end: Structure, reference: Structure, matched: bool) -> tuple[float, float]:
    """RMSD of heavy and of all atoms, Å; atoms of another order are matched by their bonds."""
    if matched:
        heavy = reference.numbers > 1
        first, second = (
            rmsd(aligned(end.pos[kept], reference.pos[kept]), reference.pos[kept]) for kept in (heavy, slice(None))
        )
        return first, second
    found = with_orders(reference)
    if found is None:
        return np.nan, np.nan
    mol = Chem.AddHs(Chem.MolFromSmiles(canonical_smiles(reference.smiles)))
    mol.AddConformer(conformer_of(end.pos))
    try:
        with rdBase.BlockLogs():
            heavy_atoms = rdMolAlign.GetBestRMS(Chem.RemoveHs(mol), Chem.RemoveHs(found[0]))
            return heavy_atoms, rdMolAlign.GetBestRMS(mol, found[0], maxMatches=_MATCHES)
    except RuntimeError:
        return np.nan, np.nan


def evaluate(
    predictor: Predictor,
    store: StructureStore,
    split: SplitPolicy = SPLIT,
    count: int = 2000,
    conformers: Sequence[int] = (1, 4),
    processes: int = 0,
) -> dict[str, Column]:
    """Columns by the name of the geometry.

    Args:
        predictor: of the model.
        store: with geometries `given` and `mmff`, as `recipes.qm9` makes it.
        split: of the training.
        count: number of test molecules.
        conformers: numbers of conformers of a SMILES.
        processes: for conformers.
    """
    pairs = pairs_of(store, split, count)
    columns: dict[str, Column] = {}
    refines = any(map(is_displacement, predictor.targets))

    def add(name: str, inputs: Sequence[Any], references: Sequence[Structure], **options: Any) -> None:
        start = time.perf_counter()
        rows = predictor.predict(inputs, processes=processes, **options)
        seconds = (time.perf_counter() - start) / len(rows)
        made = [(row, each) for row, each in zip(rows, references, strict=True) if row.values]
        errors = {
            target.name: np.array([abs(float(row[target.name]) - each.labels[target.name]) for row, each in made])
            for target in scalars(predictor)
        }
        same = isinstance(inputs[0], Structure)
        places = [heavy_and_all(row.structure, each, same) for row, each in made[: None if same else RMSDS]]
        columns[name] = Column(errors, seconds, np.array(places).reshape(-1, 2))

    for method, title in TITLES.items():
        if method in pairs:
            starts, references = zip(*pairs[method], strict=True)
            add(title, starts, references)
            if refines and method != "given":
                add(f"{title}, refined", refine(predictor.runner, starts), references)
    references = [reference for _, reference in pairs["given"]]
    smiles = [each.smiles for each in references]
    for number in conformers:
        for geometry in ("etkdg", "refined")[: 1 + refines]:
            add(f"SMILES, {number} × {geometry}", smiles, references, conformers=number, geometry=geometry)
    if find_spec("tblite"):
        add(f"SMILES, 1 × xtb ({XTB})", smiles[:XTB], references[:XTB], conformers=1, geometry="xtb")
    return columns


def scalars(predictor: Predictor) -> list[Label]:
    """Targets with one number for each molecule."""
    return [each for each in predictor.targets if not (each.is_class or each.shape or each.per_node)]


def table_of(columns: dict[str, Column], targets: Sequence[Label]) -> str:
    """Mean absolute errors with standard errors, RMSDs and times, a row for each kind of geometry, as Markdown."""
    heads = [f"{target.name}, {target.unit}" for target in targets]
    lines = [
        "| geometry | heavy atoms, Å | all atoms, Å | s | " + " | ".join(heads) + " |",
        "|---" * (4 + len(heads)) + "|",
    ]
    counts = (np.isfinite(next(iter(columns.values())).errors[target.name]).sum() for target in targets)
    lines.append("| labelled molecules | | | | " + " | ".join(map(str, counts)) + " |")
    for name, column in columns.items():
        known = [column.errors[target.name][np.isfinite(column.errors[target.name])] for target in targets]
        cells = [f"{each.mean():.4g} ± {each.std() / np.sqrt(len(each)):.1g}" if len(each) else "" for each in known]
        heavy, every = np.nanmean(column.rmsd, axis=0)
        lines.append(f"| {name} | {heavy:.3f} | {every:.3f} | {column.seconds:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    model: Annotated[Path, typer.Argument(help="model folder")],
    store: Annotated[Path, typer.Argument(help="store with several geometries, as recipes.qm9 makes it")],
    molecules: Annotated[int, typer.Option(help="test molecules")] = 2000,
    conformers: Annotated[list[int], typer.Option(help="numbers of conformers of a SMILES")] = [1, 4],  # noqa: B006
    processes: Annotated[int, typer.Option(help="processes for conformers")] = 2,
) -> None:
    """Print errors and RMSDs by geometry."""
    predictor = Predictor.load(model)
    columns = evaluate(predictor, StructureStore(store), count=molecules, conformers=conformers, processes=processes)
    print(table_of(columns, scalars(predictor)))


if __name__ == "__main__":
    typer.run(main)
