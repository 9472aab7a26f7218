"""Embeddings: invariant features of molecules or atoms, in the order of the inputs; see `models.features`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molformer.data.conformers import ConformerPolicy
from molformer.data.drafts import draft_folder, writing
from molformer.data.readers import Entry
from molformer.errors import ConfigError, InputError
from molformer.inference.batches import BatchRunner
from molformer.inference.sources import listed, policy_of, processes_for, read_inputs, with_geometries

LEVELS = ("molecule", "atom")


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features of one input."""

    name: str  # the SMILES, or the file and frame
    status: str  # see `Prediction.status`; the applicability domain is not tested
    message: str = ""  # why there are no features; empty if there are
    features: np.ndarray | None = None  # of the molecule (F,) or of its atoms (n, F); None if the input failed


def embeddings(
    runner: BatchRunner,
    entries: Iterable[Entry],
    level: str = "molecule",
    processes: int = 0,
    policy: ConformerPolicy | None = None,
) -> Iterator[Embedding]:
    """Features of entries as they come, from the first model of a predictor, with its policy of conformers or another.

    Raises:
        ConfigError: the level is not known.
    """
    if level not in LEVELS:
        raise ConfigError(f"level is '{level}'; choose one of {', '.join(LEVELS)}")
    policy = policy_of(runner.models[0].domain, policy=policy)
    for batch in runner.batches(with_geometries(entries, policy, processes, 1)):
        outputs = runner.outputs(batch, ())
        for job in batch:
            if job.error is not None:
                yield Embedding(job.entry.name, job.error.status, str(job.error))
                continue
            features = next(outputs)[0].features
            yield Embedding(job.entry.name, "ok", features=features if level == "atom" else features.mean(0))


def embed(
    runner: BatchRunner, inputs: Any, level: str = "molecule", processes: int | None = None
) -> "np.ndarray | list[np.ndarray | None]":
    """Features of any inputs; see `Predictor.embed`."""
    inputs = listed(inputs)
    workers = processes_for(inputs, processes)
    found = [row.features for row in embeddings(runner, read_inputs(inputs), level, workers)]
    if level == "atom":
        return found
    missing = np.full(runner.models[0].num_features, np.nan)
    return np.array([missing if features is None else features for features in found])


def save_embeddings(path: Path, rows: Sequence[Embedding], level: str, width: int) -> None:
    """Write an NPZ file: `names`, `status`, `features` of `width` columns, NaN where a molecule failed, and, of atoms,
    `ptr`; it appears whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    if path.suffix.lower() != ".npz":
        raise InputError(f"cannot write '{path}': its name must end in .npz")
    arrays = {"names": np.array([row.name for row in rows]), "status": np.array([row.status for row in rows])}
    if level == "atom":
        parts = [np.zeros((0, width), np.float32) if row.features is None else row.features for row in rows]
        arrays["ptr"] = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        arrays["features"] = np.concatenate(parts)
    else:
        missing = np.full(width, np.nan, np.float32)
        arrays["features"] = np.array([missing if row.features is None else row.features for row in rows])
    with writing(path), draft_folder(path) as folder:
        with open(folder / "features", "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(folder / "features", path)
