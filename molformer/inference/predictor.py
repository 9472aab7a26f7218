"""Predictor: predictions with units and uncertainties from SMILES, files or structures, one row for each input."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from molformer.data.conformers import ConformerPolicy
from molformer.data.drafts import writing
from molformer.data.readers import Entry
from molformer.errors import ModelError
from molformer.inference.attention_weights import Attention, attention
from molformer.inference.batches import BatchRunner
from molformer.inference.contributions import contributions
from molformer.inference.devices import Devices, device_names
from molformer.inference.embeddings import embed
from molformer.inference.hub import download, upload
from molformer.inference.models import find_models
from molformer.inference.prediction import Prediction
from molformer.inference.refinement import check_refines, refined
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import row_of
from molformer.inference.sources import GeometryChoice, listed, policy_of, processes_for, read_inputs, with_geometries
from molformer.inference.table import Layout, Predictions
from molformer.models.forward import threads
from molformer.models.property import PropertyModel, load_model
from molformer.targets import Label
from molformer.uncertainty.applicability import known
from molformer.uncertainty.calibration import Calibration

if TYPE_CHECKING:
    from molformer.inference.ase import MolformerCalculator

CARD = "README.md"
"""Name of the model card in a model folder, which is copied with a model."""


class Predictor:
    """Predicts properties of molecules with a trained model or an ensemble.

    Args:
        models: a model on its device, or the members of an ensemble.
        batch_size: largest number of geometries in a batch.
        memory: limit of a batch, GiB; a structure that needs more gets the status `too_large`.
        calibrations: of each network, see `Calibration`; None where there is none.

    Raises:
        ModelError: the models of an ensemble have different targets, or a calibration is not that of its model.
    """

    def __init__(
        self,
        models: PropertyModel | Sequence[PropertyModel],
        batch_size: int = 32,
        memory: float = 4.0,
        calibrations: Sequence[Calibration | None] = (),
    ) -> None:
        self.models = (models.eval(),) if isinstance(models, PropertyModel) else tuple(each.eval() for each in models)
        self.calibrations = tuple(calibrations) or (None,) * len(self.models)
        self.runner = BatchRunner(self.models, batch_size, memory)
        self.folders: tuple[Path, ...] = ()
        self.devices: tuple[str, ...] = ()
        assert len(self.calibrations) == len(self.models) > 0
        for each, calibration in zip(self.models, self.calibrations, strict=True):
            if calibration is not None and calibration.num_features != each.num_features:
                raise ModelError(
                    f"the reference of the model has {calibration.num_features} features and the model "
                    f"{each.num_features}: they do not belong together"
                )
        for other in self.models[1:]:
            if other.targets != self.model.targets:
                raise ModelError(
                    f"the models of an ensemble must predict the same: {_named(self.model)} is not {_named(other)}"
                )
            if other.config.hydrogens != self.model.config.hydrogens:
                raise ModelError("the models of an ensemble must all take hydrogens as atoms, or none of them")
            if other.descriptor_set.inputs != self.model.descriptor_set.inputs:
                raise ModelError("the models of an ensemble must all take the same descriptors")

    def __repr__(self) -> str:
        names = ", ".join(target.name for target in self.targets)
        members = f"{len(self.models)} models, " if len(self.models) > 1 else ""
        return f"{type(self).__name__}({members}{names})"

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        device: str = "auto",
        batch_size: int = 32,
        memory: float = 4.0,
        devices: int = 1,
    ) -> Self:
        """A predictor from a model folder, a run folder, the name of a shipped model or one on the hub.

        Args:
            source: see `find_models`; several form an ensemble.
            device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.
            batch_size: largest number of geometries in a batch.
            memory: limit of a batch, GiB.
            devices: number of devices that `predict` and `stream` use, each in a process of its own; a script then
                needs `if __name__ == "__main__":`.

        Raises:
            ModelError: there is no model, or it is damaged.
            ConfigError: a device does not exist.
        """
        names = device_names(device, devices) if devices != 1 else ()
        folders = find_models(source)
        models = [load_model(folder, device) for folder in folders]
        predictor = cls(models, batch_size, memory, [Calibration.load(folder) for folder in folders])
        predictor.folders, predictor.devices = tuple(folders), names
        return predictor

    @property
    def model(self) -> PropertyModel:
        """The model, or the first member of an ensemble."""
        return self.models[0]

    @property
    def targets(self) -> tuple[Label, ...]:
        """What it predicts."""
        return self.model.targets

    def predict(
        self,
        inputs: Any,
        targets: Sequence[str] = (),
        unit: str | Mapping[str, str] | None = None,
        conformers: int | None = None,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int | None = None,
        progress: Callable[[int], None] | None = None,
        geometry: GeometryChoice | None = None,
    ) -> Predictions:
        """Predictions, in the order of the inputs; a file with several molecules gives a row for each.

        Args:
            inputs: SMILES, paths of files, structures, RDKit `Mol` or ASE `Atoms`; one, or several of them.
            targets: names of the targets to predict; all by default.
            unit: output units by target name; or one unit, used for all targets of its dimension.
            conformers: number of conformers of a molecule without coordinates, over which values are averaged; by
                default that of the model folder.
            strict: raise the error of the first input that fails, instead of returning a row with its status.
            policy: of conformer generation; by default that of the training set.
            processes: worker processes for conformer generation; by default all cores for many molecules.
            progress: called with the number of finished rows.
            geometry: of a molecule without coordinates: `etkdg`, the policy's; `refined` by the model's displacements;
                or `xtb`, relaxed by GFN2-xTB. By default that of the model, see `Domain`.

        Returns:
            A row for every molecule, also for those that fail.

        Raises:
            MolformerError: a target or unit does not exist, or the model or what is installed cannot make the geometry;
                with `strict`, also the first failure.
        """
        request = PredictionRequest.of(self.model.targets, targets, unit)
        inputs = listed(inputs)
        workers = processes_for(inputs, processes)
        rows = Predictions(targets=request.shown)
        stream = self.stream(read_inputs(inputs), request, conformers, strict, policy, workers, geometry)
        for count, row in enumerate(stream, start=1):
            rows.append(row)
            if progress is not None:
                progress(count)
        return rows

    def stream(
        self,
        entries: Iterable[Entry],
        request: PredictionRequest | None = None,
        conformers: int | None = None,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int = 0,
        geometry: str | None = None,
    ) -> Iterator[Prediction]:
        """Predictions as an iterator, in constant memory; the arguments are those of `predict`."""
        request = request or PredictionRequest.of(self.model.targets)
        conformers = self.model.domain.conformers if conformers is None else conformers
        policy = self.policy(geometry, conformers, policy)
        entries = with_geometries(entries, policy, processes, conformers)
        if (geometry or self.model.domain.geometry) == "refined":
            entries = refined(self.runner, entries)
        batches = self.runner.batches(entries)
        with ExitStack() as stack:
            runner: BatchRunner | Devices = self.runner
            if self.devices:
                devices = Devices(self.folders, self.devices, self.runner.batch_size, self.runner.memory)
                runner = stack.enter_context(devices)
            for batch, outputs in runner.computed(batches, request.targets):
                for job in batch:
                    if strict and job.error is not None:
                        raise job.error
                    # More threads than free cores would wait for those that worker processes occupy.
                    with threads(max(1, torch.get_num_threads() - processes)):
                        found = [next(outputs) for _ in job.structures]
                    yield row_of(job, found, request, self.model, self.calibrations)

    @property
    def known(self) -> dict[str, str]:
        """Elements, charges and sizes of the training set in short, by the name of the model in rows."""
        return {"": known(self.model, self.calibrations[0])}

    def policy(
        self, geometry: str | None = None, conformers: int = 1, policy: ConformerPolicy | None = None
    ) -> ConformerPolicy:
        """Policy of conformer generation for a geometry; the arguments are those of `predict`.

        Raises:
            ConfigError: the model or what is installed cannot make the geometry.
        """
        geometry = geometry or self.model.domain.geometry
        if geometry == "refined":
            check_refines(self.models)
        return policy_of(self.model.domain, conformers, policy, geometry)

    def layout(self, request: PredictionRequest, conformers: int | None = None) -> Layout:
        """The columns of a table of predictions for a request."""
        numbers = {target.name for target in request.targets if not target.is_class}
        return Layout(
            request.shown,
            (self.model.domain.conformers if conformers is None else conformers) > 1,
            len(self.models) > 1,
            frozenset(numbers.intersection(*(each.half_widths if each else () for each in self.calibrations))),
            self.calibrations[0] is not None,
        )

    def embed(self, inputs: Any, level: str = "molecule", processes: int | None = None) -> "np.ndarray | list[Any]":
        """Invariant features of molecules, for similarity search and maps; see `models.features`.

        Args:
            inputs: as in `predict`.
            level: `molecule` or `atom`.
            processes: as in `predict`.

        Returns:
            An array (B, F), NaN where an input failed; or, for atoms, a list of B arrays (n, F), None where it failed.
        """
        return embed(self.runner, inputs, level, processes)

    def attention(self, molecule: Any) -> Attention:
        """Attention weights of every layer and head for one molecule.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        return attention(self.runner, molecule)

    def contributions(self, molecule: Any, references: bool = True) -> dict[str, np.ndarray]:
        """Atomic contributions to the predicted scalars of one molecule, in the units of the model.

        Args:
            molecule: as in `predict`.
            references: include the element references, so that the contributions sum to the prediction.

        Returns:
            By target name, (n,): contributions to extensive and intensive scalars, and the values of per-atom targets.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        return contributions(self.runner, molecule, references)

    def calculator(self, dtype: str = "float32", **options: Any) -> "MolformerCalculator":
        """ASE calculator of energy, forces, stress, dipole and charges, as far as the model predicts them.

        Args:
            dtype: `float32`, or `float64` for tightly converged relaxations and long molecular dynamics.
            options: further ones of ASE's `Calculator`.

        Raises:
            ConfigError: the model predicts none of these.
        """
        from molformer.inference.ase import MolformerCalculator

        return MolformerCalculator(self.model, dtype, **options)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder: weights, config, calibration and model card; an ensemble has one for each member.

        Raises:
            ModelError: it cannot be written.
        """
        folder = Path(folder)
        for number, (model, calibration) in enumerate(zip(self.models, self.calibrations, strict=True), start=1):
            inside = folder if len(self.models) == 1 else folder / f"member-{number}"
            model.save(inside)
            if calibration is not None:
                calibration.save(inside)
            card = self.folders[number - 1] / CARD if self.folders else inside
            if card.is_file() and card.resolve() != (inside / CARD).resolve():
                with writing(inside / CARD, ModelError):
                    shutil.copyfile(card, inside / CARD)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], device: str = "auto", **options: Any) -> Self:
        """A predictor from a folder or from the Hugging Face hub.

        Args:
            source: a folder, or the id `owner/name` of a model on the hub.
            device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.
            options: of the hub: `revision`, `token`, `cache_dir`, `local_files_only`.

        Raises:
            ModelError: there is no such model, or it is damaged.
        """
        if Path(source).is_dir() or not options:
            return cls.load(source, device)
        return cls.load(download(os.fspath(source), **options), device)

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | None = None) -> str:
        """Put the model on the Hugging Face hub; returns the address of the commit.

        Args:
            repo_id: `owner/name`; made if it is not there.
            private: whether others can see it, where it is made.
            token: the one of `hf auth login` if None.

        Raises:
            ModelError: the hub cannot be reached or refuses.
            ConfigError: huggingface_hub is not installed.
        """
        with TemporaryDirectory(prefix="molformer-") as folder:
            self.save_pretrained(folder)
            names = ", ".join(target.name for target in self.model.targets)
            return upload(folder, repo_id, private, token, f"molformer model of {names}")


def _named(model: PropertyModel) -> str:
    return ", ".join(f"{target.name} ({target.unit})" for target in model.targets)
