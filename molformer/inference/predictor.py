"""Predictor: from SMILES, files or structures to values with units and doubts, one row for each input, in order."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from molformer.data.conformers import ConformerPolicy
from molformer.data.readers import Entry
from molformer.errors import ModelError
from molformer.inference.batches import Work
from molformer.inference.calibration import Calibration
from molformer.inference.devices import Devices, device_names
from molformer.inference.forward import threads
from molformer.inference.inputs import embedded, listed, policy_of, processes_for, read_inputs
from molformer.inference.models import find_models
from molformer.inference.prediction import Prediction, Predictions
from molformer.inference.question import Question
from molformer.inference.rows import row_of
from molformer.inference.table import Layout
from molformer.models.property import PropertyModel, load_model

if TYPE_CHECKING:
    from molformer.inference.ase import MolformerCalculator
    from molformer.inference.attention import Attention


class Predictor:
    """Predicts the properties of molecules with a trained model, or with several that predict the same.

    Args:
        models: the network, on the device it is to run on; or the members of an ensemble.
        batch_size: geometries that are computed together, at most.
        memory: what a batch may take, GiB; a structure that needs more is refused as `too_large`.
        calibrations: of each network, see `Calibration`; None where there is none.

    Raises:
        ModelError: the models of an ensemble do not predict the same targets, or a calibration is not its model's.
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
        self.work = Work(self.models, batch_size, memory)
        self.folders: tuple[Path, ...] = ()
        self.devices: tuple[str, ...] = ()
        assert len(self.calibrations) == len(self.models) > 0
        for each, calibration in zip(self.models, self.calibrations, strict=True):
            if calibration is not None and len(calibration.mean) != each.num_features:
                raise ModelError(
                    f"the reference of the model has {len(calibration.mean)} features and the model "
                    f"{each.num_features}: they do not belong together"
                )
        for other in self.models[1:]:
            if other.targets != self.model.targets:
                raise ModelError(
                    f"the models of an ensemble must predict the same: {_named(self.model)} is not {_named(other)}"
                )
            if other.config.hydrogens != self.model.config.hydrogens:
                raise ModelError("the models of an ensemble must all take hydrogens as atoms, or none of them")

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
            source: where the model is, see `find_models`; several are an ensemble.
            device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.
            batch_size: geometries that are computed together, at most.
            memory: what a batch may take, GiB.
            devices: how many of them `predict` and `stream` share the work among, each in a process of its own; a
                script then needs the usual `if __name__ == "__main__":`.

        Raises:
            ModelError: there is no model, or it is damaged.
            ConfigError: there is no such device, or there are fewer.
        """
        names = device_names(device, devices) if devices != 1 else ()
        folders = find_models(source)
        models = [load_model(folder, device) for folder in folders]
        predictor = cls(models, batch_size, memory, [Calibration.load(folder) for folder in folders])
        predictor.folders, predictor.devices = tuple(folders), names
        return predictor

    @property
    def model(self) -> PropertyModel:
        """The network, the first of an ensemble."""
        return self.models[0]

    def predict(
        self,
        inputs: Any,
        targets: Sequence[str] = (),
        unit: str | Mapping[str, str] | None = None,
        conformers: int = 1,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Predictions:
        """Predictions, in the order of the inputs; a file with several molecules gives a row for each.

        Args:
            inputs: SMILES, paths of files, structures, RDKit `Mol` or ASE `Atoms`; one, or several of them.
            targets: names of those that are wanted; all by default.
            unit: of single targets by their names; or one unit, in which all targets that it can measure are given.
            conformers: geometries of a molecule without coordinates, over which values are averaged.
            strict: raise at the first input that fails, instead of giving a row that says why.
            policy: how molecules without coordinates get them; as in the training by default.
            processes: worker processes that make these while the model works; all cores for many molecules by default.
            progress: called with the number of rows after each.

        Returns:
            A row for every molecule, whatever fails.

        Raises:
            MolformerError: a target or unit does not exist; with `strict`, also the first failure.
        """
        question = Question.of(self.model.targets, targets, unit)
        inputs = listed(inputs)
        workers = processes_for(inputs, processes)
        rows = Predictions(targets=question.shown)
        stream = self.stream(read_inputs(inputs), question, conformers, strict, policy, workers)
        for count, row in enumerate(stream, start=1):
            rows.append(row)
            if progress is not None:
                progress(count)
        return rows

    def stream(
        self,
        entries: Iterable[Entry],
        question: Question | None = None,
        conformers: int = 1,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int = 0,
    ) -> Iterator[Prediction]:
        """Predictions of entries as they come, in constant memory; the arguments are those of `predict`."""
        question = question or Question.of(self.model.targets)
        policy = policy_of(self.model.domain, conformers, policy)
        batches = self.work.batches(embedded(entries, policy, processes, conformers))
        with ExitStack() as stack:
            work = stack.enter_context(self._spread()) if self.devices else self.work
            for batch, outputs in work.computed(batches, question.targets):
                for job in batch:
                    if strict and job.error is not None:
                        raise job.error
                    # One that waits for a core that a worker process has would delay all.
                    with threads(max(1, torch.get_num_threads() - processes)):
                        found = [next(outputs) for _ in job.structures]
                    yield row_of(job, found, question, self.model, self.calibrations)

    def _spread(self) -> Devices:
        return Devices(self.folders, self.devices, self.work.batch_size, self.work.memory)

    def layout(self, question: Question, conformers: int = 1) -> Layout:
        """The columns of a table of the answers, before there are any."""
        numbers = {target.name for target in question.targets if not target.is_class}
        return Layout(
            question.shown,
            conformers > 1,
            len(self.models) > 1,
            frozenset(numbers.intersection(*(each.half_widths if each else () for each in self.calibrations))),
            self.calibrations[0] is not None,
        )

    def embed(self, inputs: Any, level: str = "molecule", processes: int | None = None) -> "np.ndarray | list[Any]":
        """Invariant features of molecules, for search and plots; see `inference.features`.

        Args:
            inputs: as in `predict`.
            level: `molecule` or `atom`.
            processes: as in `predict`.

        Returns:
            An array (B, F), NaN where an input failed; or, of atoms, a list of B arrays (n, F), None where it failed.
        """
        from molformer.inference.embed import embed

        return embed(self, inputs, level, processes)

    def attention(self, molecule: Any) -> "Attention":
        """Attention weights of every layer and head for one molecule.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        from molformer.inference.attention import attention

        return attention(self, molecule)

    def contributions(self, molecule: Any, references: bool = True) -> "dict[str, np.ndarray]":
        """What each atom of one molecule adds to its predicted numbers, in the units of the model.

        Args:
            molecule: as in `predict`.
            references: with the part that belongs to the element alone, so that the numbers add up to the prediction.

        Returns:
            By target name, (n,): parts of extensive and intensive numbers, and values per atom as they are.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        from molformer.inference.contributions import contributions

        return contributions(self, molecule, references)

    def calculator(self, dtype: str = "float32", **options: Any) -> "MolformerCalculator":
        """An ASE calculator: energy, forces, stress, dipole and charges, as far as the model predicts them.

        Args:
            dtype: `float32`, or `float64` for relaxations to tight limits and long dynamics.
            options: further ones of ASE's `Calculator`.

        Raises:
            ConfigError: the model predicts nothing that ASE asks for.
        """
        from molformer.inference.ase import MolformerCalculator

        return MolformerCalculator(self.model, dtype, **options)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder: weights, config, calibration and model card; an ensemble has one for each member.

        Raises:
            ModelError: it cannot be written.
        """
        from molformer.inference.pretrained import save_pretrained

        save_pretrained(self, folder)

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
        from molformer.inference.hub import download

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
        from molformer.inference.pretrained import push_to_hub

        return push_to_hub(self, repo_id, private, token)


def _named(model: PropertyModel) -> str:
    return ", ".join(f"{target.name} ({target.unit})" for target in model.targets)
