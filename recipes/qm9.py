"""The pretrained model `qm9`, from the raw data to the folder that ships: `python -m recipes.qm9 QM9.npz -o runs/qm9`.

1. A store: QM9 with its DFT geometries, and with a force-field geometry of each SMILES as well, the kind that a
   prediction from a SMILES is made for. Both geometries of a molecule are on one side of every split.
2. `configs/qm9_geometries.yaml` on it, DFT geometries twice as often.
3. Errors on the test molecules, of each kind of geometry, and the folder that ships: `OUTPUT/qm9`.

Steps that are finished are not done again.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from molformer import units
from molformer.data.conformer_generation import with_geometry
from molformer.data.datamodule import MoleculeDataModule
from molformer.data.readers import Entry
from molformer.data.splits import SplitPolicy
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.models.property import load_model
from molformer.training.arguments import read_configs
from molformer.training.run import train
from molformer.training.target_errors import TargetErrors, evaluate, predict_batches

ENERGIES = ("homo", "lumo", "gap", "zpve", "eat_g4mp2")
"""Given in hartree; the model has them in eV."""

ATOMS = {
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "u298": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h298": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "g298": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
"""Energies of isolated atoms that belong to QM9, hartree: its file atomref.txt, doi 10.6084/m9.figshare.1057643."""

HEADINGS = {"given": "DFT geometry", "etkdg+mmff": "force-field geometry"}

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


def with_force_field(structures: StructureStore, cache: Path, processes: int) -> Iterator[Structure]:
    """Each molecule of a store as it is, followed by its force-field geometry if RDKit finds one."""
    entries = (Entry(str(index), smiles=molecule.smiles) for index, molecule in enumerate(structures))
    embedded = with_geometry(entries, processes=processes, cache=cache)
    for molecule, entry in zip(structures, track(embedded, "force-field geometries", len(structures)), strict=True):
        yield molecule
        if entry.structure is not None and sorted(entry.structure.numbers) == sorted(molecule.numbers):
            yield replace(entry.structure, name=molecule.name, group=molecule.group, labels=molecule.labels)


def errors_by_geometry(
    model: Path, store: StructureStore, split: SplitPolicy | None = None
) -> dict[str, list[TargetErrors]]:
    """Errors on the test molecules, by the method of the geometry; only molecules that have every geometry count."""
    network = load_model(model, "cpu")
    names = [target.name for target in network.targets]
    data = MoleculeDataModule(store, names, split or SplitPolicy(fractions=SPLIT), batch_size=128)
    test = data.split.test
    methods = np.asarray(store.column("geometry"))[test]
    groups, counts = np.unique(store.groups[test], return_counts=True)
    everywhere = np.isin(store.groups[test], groups[counts == len(store.manifest["geometries"])])
    found = {}
    for number, name in enumerate(store.manifest["geometries"]):
        data.split = replace(data.split, test=test[(methods == number) & everywhere])
        found[name] = evaluate(predict_batches(network, data.test_dataloader()), data.targets, data)
    return found


def table_of(errors: dict[str, list[TargetErrors]]) -> str:
    """Mean absolute errors with 95 % intervals, a column for each kind of geometry, as Markdown."""
    heads = [f"MAE, {HEADINGS.get(name, name)}" for name in errors]
    lines = ["| target | unit | molecules | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for rows in zip(*errors.values(), strict=True):
        cells = [f"{row.error:.4g} [{row.interval[0]:.4g}, {row.interval[1]:.4g}]" for row in rows]
        lines.append(f"| {rows[0].target.name} | {rows[0].target.unit} | {rows[0].count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ship(model: Path, errors: str, folder: Path) -> None:
    """Copy a model folder, and add the errors by geometry and the trials to its card."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    card = (model / "README.md").read_text(encoding="utf-8").replace(model.as_posix(), folder.name)
    card += f"\n## Errors by geometry\n\nA prediction from a SMILES is made for a force-field geometry.\n\n{errors}\n"
    (folder / "README.md").write_text(f"{card}\n{TRIALS.read_text(encoding='utf-8')}", encoding="utf-8")


def main(
    data: Annotated[Path, typer.Argument(help="NPZ file of QM9")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for stores, runs and the model")],
    processes: Annotated[int, typer.Option(help="processes for the force field")] = 2,
    overrides: Annotated[list[str] | None, typer.Argument(help="further keys of the run, as --key=value")] = None,
) -> None:
    """Make the pretrained model of QM9."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output.mkdir(parents=True, exist_ok=True)
    store, both = output / "qm9.safetensors", output / "qm9_geometries.safetensors"
    if not store.exists():
        write_store(store, track(molecules(data), "reading", 120_744), LABELS, source="QM9, doi 10.1038/sdata.2014.22")
    if not both.exists():
        molecules_and_copies = with_force_field(StructureStore(store), output / "geometries", processes)
        write_store(both, molecules_and_copies, LABELS, source="QM9, doi 10.1038/sdata.2014.22, and RDKit geometries")
    run = output / "run"
    config = ["--data", str(both), "--run", str(run), *(overrides or [])]
    train(*read_configs("configs/qm9_geometries.yaml", config), resume=(run / "config.yaml").exists())
    errors = table_of(errors_by_geometry(run, StructureStore(both)))
    print(errors)
    ship(run / "model", errors, output / "qm9")


if __name__ == "__main__":
    typer.run(main)
