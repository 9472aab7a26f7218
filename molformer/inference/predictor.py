"""Predictor: from SMILES, files or structures to values with units, one row for each input, in order."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molformer.data.conformers import ConformerPolicy
from molformer.data.embedding import with_geometry
from molformer.data.graph import GraphBatch
from molformer.data.readers import Entry, library_of, read_input
from molformer.data.structure import Structure
from molformer.elements import SYMBOLS
from molformer.errors import MolformerError, UnsupportedElementError
from molformer.models.property import PropertyModel, load_model


@dataclass(frozen=True, eq=False)
class Value:
    """A predicted value.

    Args:
        value: (), or (3,) for a vector, (3, 3) for a tensor or stress (NaN where the structure is not periodic), (n,)
            for charges, (n, 3) for forces and other vectors of n atoms; the probability of 1 for a binary target, (K,)
            probabilities of the classes of a category.
        unit: its unit.
    """

    value: np.ndarray
    unit: str

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"{np.array2string(self.value, precision=4)} {self.unit}"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one input.

    Args:
        name: the SMILES, or the file and frame.
        status: `ok`, or why there are no values: `invalid_input`, `embedding_failed`, `unsupported_element`.
        message: the reason, in a sentence; empty if ok.
        structure: the geometry that was used.
        values: by target name.
    """

    name: str
    status: str
    message: str = ""
    structure: Structure | None = None
    values: dict[str, Value] = field(default_factory=dict)

    def __getitem__(self, target: str) -> Value:
        return self.values[target]


class Predictor:
    """Predicts the properties of molecules with a trained model.

    Args:
        model: the network, on the device it is to run on.
        batch_size: molecules that are computed together.
    """

    def __init__(self, model: PropertyModel, batch_size: int = 32) -> None:
        self.model = model.eval()
        self.batch_size = batch_size

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "auto") -> "Predictor":
        """A predictor from a model folder, or from a run folder that holds one.

        Args:
            path: the folder.
            device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.

        Raises:
            ModelError: there is no model, or it is damaged.
            ConfigError: there is no such device.
        """
        return cls(load_model(path, device))

    def predict(
        self,
        inputs: Any,
        strict: bool = False,
        policy: ConformerPolicy | None = None,
        processes: int = 0,
    ) -> list[Prediction]:
        """Predictions, in the order of the inputs; a file with several molecules gives a row for each.

        Args:
            inputs: SMILES, paths of files, structures, RDKit `Mol` or ASE `Atoms`; one, or a sequence of them.
            strict: raise at the first input that fails, instead of giving a row that says why.
            policy: how molecules without coordinates get them.
            processes: worker processes that make these; 0 works in this one.

        Returns:
            A row for every molecule, whatever fails.

        Raises:
            MolformerError: with `strict`, the first failure.
        """
        single = isinstance(inputs, str | Path | Structure) or library_of(inputs)
        entries = (entry for source in ([inputs] if single else inputs) for entry in read_input(source))
        return list(self.predict_entries(with_geometry(entries, policy, processes), strict))

    def predict_entries(self, entries: Iterable[Entry], strict: bool = False) -> Iterator[Prediction]:
        """Predictions of entries that have a geometry or an error, as they come, a batch at a time."""
        remaining = iter(entries)
        while batch := list(islice(remaining, self.batch_size)):
            batch = [self._checked(entry) for entry in batch]
            if strict:
                for entry in batch:
                    if entry.error is not None:
                        raise entry.error
            structures = [entry.structure for entry in batch if entry.structure is not None]
            values = iter(self.values(structures) if structures else [])
            for entry in batch:
                if entry.error is not None:
                    yield Prediction(entry.name, entry.error.status, str(entry.error))
                else:
                    yield Prediction(entry.name, "ok", structure=entry.structure, values=next(values))

    def values(self, structures: Sequence[Structure]) -> list[dict[str, Value]]:
        """Values of every target for structures that are known to be fit for the model."""
        bare = [replace(structure, labels={}) for structure in structures]
        parameter = next(self.model.parameters())
        graph = GraphBatch.from_structures(bare, parameter.dtype).to(parameter.device)
        with torch.no_grad():
            raw = self.model(graph)
        predictions = {}
        for target in self.model.targets:
            value = raw[target.name]
            value = self.model.probabilities(target, value) if target.is_class else value
            predictions[target.name] = value.detach().cpu().numpy()
        ends = np.cumsum([len(structure) for structure in structures])
        rows = []
        for index, end in enumerate(ends):
            atoms = slice(end - len(structures[index]), end)
            rows.append(
                {
                    target.name: Value(predictions[target.name][atoms if target.per_node else index], target.unit)
                    for target in self.model.targets
                }
            )
        return rows

    def _checked(self, entry: Entry) -> Entry:
        """The entry, with an error if its molecule has an element that the model never saw."""
        known = self.model.domain.elements
        if entry.structure is None or not known:
            return entry
        unseen = sorted(set(entry.structure.numbers.tolist()) - set(known))
        if not unseen:
            return entry
        error: MolformerError = UnsupportedElementError(
            f"{entry.name}: the model has not seen {', '.join(SYMBOLS[number] for number in unseen)} in training; "
            f"it knows {', '.join(SYMBOLS[number] for number in known)}"
        )
        return Entry(entry.name, entry.where, error=error)
