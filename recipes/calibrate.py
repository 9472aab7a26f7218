"""Intervals and applicability domain of a trained model, fitted anew without training.

    python -m recipes.calibrate MODEL STORE SPLIT
    molformer evaluate MODEL STORE --split SPLIT

MODEL is a model folder, the name of a shipped model, or a run folder; STORE has molecules of its training and
validation part, and SPLIT, a `split.json`, says which. A training run does the same when it ends.
"""

from pathlib import Path
from typing import Annotated

import typer

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.descriptor_table import descriptor_table
from molformer.data.hydrogens import heavy_atom_store
from molformer.data.splits import SplitPolicy
from molformer.data.store import StructureStore
from molformer.inference.models import find_models
from molformer.models.property import load_model
from molformer.uncertainty.fit import calibrate_run


def calibrate_folder(folder: Path, store: StructureStore, split: Path) -> None:
    """Replace the calibration of a model folder by one of the training and validation part of a split."""
    model = load_model(folder, "cpu")
    store = heavy_atom_store(store) if model.config.hydrogens == "implicit" else store
    names = [target.name for target in model.targets if target.name in store.labels]
    policy = SplitPolicy("file", file=str(split))
    data = MoleculeDataModule(store, names, policy, batch_size=64, conformers=model.domain.conformers)
    data.inputs = descriptor_table(store, model.descriptor_set)
    calibrate_run(model, data).save(folder)


def main(
    model: Annotated[str, typer.Argument(help="model folder, run folder or name of a shipped model")],
    store: Annotated[Path, typer.Argument(help="structure store")],
    split: Annotated[Path, typer.Argument(help="JSON file with the lists train, val and test")],
) -> None:
    """Calibrate a model, or the members of an ensemble."""
    for folder in find_models(model):
        calibrate_folder(folder, StructureStore(store), split)
        print(f"Wrote the calibration of '{folder}'")


if __name__ == "__main__":
    typer.run(main)
