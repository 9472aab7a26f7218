"""The pretrained model `qm9`, from the raw data to the folder that ships: `python -m recipes.qm9 QM9.npz -o runs/qm9`.

1. A store: QM9 with its DFT geometries, each also relaxed by MMFF94, with the displacements that lead back; for some
   molecules also a geometry of the SMILES, mostly another conformer, the kind that a prediction from a SMILES is made
   for, and one of GFN2-xTB. All geometries of a molecule are on one side of every split. `--only-data` ends here.
2. `configs/qm9_geometries.yaml` on it, geometries of SMILES least often.
3. Errors on test molecules, of each kind of geometry (`recipes.qm9_evaluation`), and the folder that ships:
   `OUTPUT/qm9`.

Steps that are finished are not done again.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from molformer import units
from molformer.data.conformer_generation import with_geometry
from molformer.data.conformers import ConformerPolicy
from molformer.data.readers import Entry
from molformer.data.splits import SplitPolicy, make_split
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.inference.predictor import Predictor
from molformer.models.property import load_model
from molformer.training.arguments import read_configs
from molformer.training.run import train
from recipes.qm9_evaluation import evaluate, scalars, table_of
from recipes.qm9_geometries import DISPLACEMENT, counted, relaxed_geometries

logger = logging.getLogger(__name__)

ENERGIES = ("homo", "lumo", "gap", "zpve", "eat_g4mp2")
"""Given in hartree; the model has them in eV."""

ATOMS = {
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "u298": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h298": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "g298": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
"""Energies of isolated atoms that belong to QM9, hartree: its file atomref.txt, doi 10.6084/m9.figshare.1057643."""

OTHERS = ("mu", "alpha", "cv", "r2")

LABELS = (
    *(Label(name, "eV", "extensive" if name in ("zpve", "eat_g4mp2") else "intensive") for name in ENERGIES),
    *(Label(f"{name}_atom", "eV", "extensive") for name in ATOMS),
    Label("mu", "D", "vector_length"),
    Label("alpha", "a0^3", "isotropic_tensor"),
    Label("cv", "cal/mol/K", "extensive"),
    Label("r2", "a0^2", "spatial_extent"),
)

TRIALS = Path(__file__).with_name("qm9_trials.md")
"""What was tried, what it cost and what it gave; goes into the model card."""

SOURCE = "QM9, doi 10.1038/sdata.2014.22"

CONFORMERS, GEOMETRY = 4, "etkdg"
"""Defaults of the model for a SMILES: conformers, over which predictions are averaged, and how they are made."""

SMILES = 30_000
"""Training molecules that also have a geometry of their SMILES, mostly another conformer than that of the labels."""

FIXED_POINTS = 8
"""Of so many DFT geometries one has displacements of zero."""

GFN2 = (2_000, 500)
"""Molecules that also have a GFN2-xTB geometry: of the training part, and of the validation and the test part."""

SPLIT = (105_744, 5_000, 10_000)
"""Molecules for training, validation and test, drawn with seed 0."""


def molecules(path: Path) -> Iterator[Structure]:
    """Molecules of the NPZ file with the labels of the model.

    Energies at 0 and 298 K become atomisation energies: those of the isolated atoms are subtracted.

    Args:
        path: ragged layout, see `molformer.data.readers.npz`, with labels of QM9 in its own units.
    """
    with np.load(path) as file:
        columns = {name: file[name] for name in ("positions", "numbers", "offsets", "smiles", "gdb_index", "targets")}
        names = file["target_names"].tolist()
    hartree = units.factor("Ha", "eV")
    for row, (start, end) in enumerate(zip(columns["offsets"][:-1], columns["offsets"][1:], strict=True)):
        numbers = columns["numbers"][start:end]
        given = dict(zip(names, columns["targets"][row], strict=True))
        labels = {name: given[name] * hartree for name in ENERGIES} | {name: given[name] for name in OTHERS}
        for name, atoms in ATOMS.items():
            labels[f"{name}_atom"] = (given[name] - sum(atoms[number] for number in numbers.tolist())) * hartree
        yield Structure(
            numbers,
            columns["positions"][start:end],
            smiles=columns["smiles"][row].decode(),
            name=f"gdb {columns['gdb_index'][row]}",
            group=row,
            labels={name: np.array(value) for name, value in labels.items()},
        )


def with_zero_displacements(structures: Iterable[Structure]) -> Iterator[Structure]:
    """DFT geometries, some with the displacement that they have from themselves, where refinement ends.

    Were it all of them, half of the labels would be zero, and under a mean absolute error zero the best guess for all.
    """
    for molecule in structures:
        zero = {} if molecule.group % FIXED_POINTS else {DISPLACEMENT: np.zeros((len(molecule), 3))}
        yield replace(molecule, labels={**molecule.labels, **zero})


def embedded(store: StructureStore, rows: Sequence[int], cache: Path, processes: int) -> Iterator[Structure]:
    """Force-field geometries of SMILES of a store, with labels of molecules, if RDKit finds one that converges."""
    molecules = [store[row] for row in rows]
    entries = (Entry(molecule.name, smiles=molecule.smiles) for molecule in molecules)
    made = with_geometry(entries, processes=processes, cache=cache)
    for molecule, entry in zip(molecules, counted(made, "geometries of SMILES", len(molecules)), strict=True):
        structure = entry.structure
        known = structure is not None and sorted(structure.numbers) == sorted(molecule.numbers)
        if structure is not None and known and structure.geometry == ConformerPolicy().method:
            # Of another conformer than that of the labels, whose atoms have another order.
            kept = {name: value for name, value in molecule.labels.items() if not store.labels[name].per_node}
            yield replace(structure, name=molecule.name, group=molecule.group, labels=kept, molecular_graph=None)


def rows_of(store: StructureStore, split: SplitPolicy, train: int, test: int) -> list[int]:
    """Some molecules of each part of the split of a store of DFT geometries, ascending.

    Args:
        store: a molecule in each row.
        split: of the recipe.
        train: number from the training part.
        test: number from the validation part, and from the test part.
    """
    parts = make_split(store, split)
    generator = np.random.default_rng(0)
    drawn = [
        generator.permutation(part)[:count]
        for part, count in ((parts.train, train), (parts.val, test), (parts.test, test))
    ]
    return np.sort(np.concatenate(drawn)).tolist()


def make_stores(
    data: Path,
    output: Path,
    processes: int = 2,
    split: SplitPolicy | None = None,
    smiles: int = SMILES,
    gfn2: tuple[int, int] = GFN2,
) -> tuple[Path, Path]:
    """Make what is missing of the stores: with DFT geometries and the same relaxed, and with the others as well.

    Args:
        data: NPZ file of QM9.
        output: folder.
        processes: that relax and embed; 0 for none beside this one.
        split: of the recipe.
        smiles: number of training molecules with a geometry of their SMILES; others have one in any case.
        gfn2: numbers of molecules with a GFN2-xTB geometry, of the training part, and of each of the others.
    """
    split = split or SplitPolicy(fractions=SPLIT)
    given, relaxed, everything = (output / f"{name}.safetensors" for name in ("qm9", "qm9_relaxed", "qm9_geometries"))
    labels = (*LABELS, Label(DISPLACEMENT, "Å", "atom_vector"))
    if not given.exists():
        write_store(given, counted(molecules(data), "molecules read", sum(SPLIT)), LABELS, source=SOURCE)
    store = StructureStore(given)
    if not relaxed.exists():
        rows = range(len(store))
        made = relaxed_geometries(store, rows, "mmff", output / "mmff", processes)
        write_store(relaxed, chain(with_zero_displacements(store), made), labels, source=f"{SOURCE}, and MMFF94")
    if not everything.exists():
        more = [embedded(store, rows_of(store, split, smiles, len(store)), output / "etkdg", processes)]
        if find_spec("tblite"):
            rows = rows_of(store, split, *gfn2)
            more.append(relaxed_geometries(store, rows, "gfn2", output / "gfn2", processes))
        else:
            logger.warning("tblite is not installed: no geometries of GFN2-xTB (pip install 'molformer[xtb]')")
        kept = chain(StructureStore(relaxed), *more)
        write_store(everything, kept, labels, source=f"{SOURCE}, MMFF94, ETKDG and GFN2-xTB")
    return relaxed, everything


def ship(model: Path, errors: str, folder: Path) -> None:
    """Copy a model folder, with the defaults of a SMILES, and add the errors by geometry and the trials to its card."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    network = load_model(model, "cpu")
    network.domain = replace(network.domain, conformers=CONFORMERS, geometry=GEOMETRY)
    network.save(folder)
    card = (model / "README.md").read_text(encoding="utf-8").replace(model.as_posix(), folder.name)
    card += f"\n## Errors by geometry\n\nMAE, RMSD to the DFT geometry, seconds a molecule.\n\n{errors}\n"
    (folder / "README.md").write_text(f"{card}\n{TRIALS.read_text(encoding='utf-8')}", encoding="utf-8")


def main(
    data: Annotated[Path, typer.Argument(help="NPZ file of QM9")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for stores, runs and the model")],
    processes: Annotated[int, typer.Option(help="processes for the force field")] = 2,
    only_data: Annotated[bool, typer.Option("--only-data", help="make the stores, and no model")] = False,
    overrides: Annotated[list[str] | None, typer.Argument(help="further keys of the run, as --key=value")] = None,
) -> None:
    """Make the pretrained model of QM9."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output.mkdir(parents=True, exist_ok=True)
    _, both = make_stores(data, output, processes)
    if only_data:
        return
    run = output / "run"
    config = ["--data", str(both), "--run", str(run), *(overrides or [])]
    train(*read_configs("configs/qm9_geometries.yaml", config), resume=(run / "config.yaml").exists())
    predictor = Predictor.load(run)
    columns = evaluate(predictor, StructureStore(both), conformers=(1, CONFORMERS), processes=processes)
    errors = table_of(columns, scalars(predictor))
    print(errors)
    ship(run / "model", errors, output / "qm9")


if __name__ == "__main__":
    typer.run(main)
