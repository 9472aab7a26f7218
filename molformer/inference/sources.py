"""Inputs of a prediction (SMILES, files, structures, objects of RDKit and ASE) as entries with geometries."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from molformer.data.conformer_generation import with_geometry
from molformer.data.conformers import ConformerPolicy
from molformer.data.readers import Entry, ReadOptions, is_file, library_of, read_input
from molformer.errors import ConfigError, InputError
from molformer.inference.batches import BatchRunner
from molformer.models.domain import Domain
from molformer.structure import Structure

GeometryChoice = Literal["etkdg", "refined", "xtb"]
"""Geometry of a molecule without coordinates: that of the conformer policy, refined by the model, or GFN2-xTB's."""

MANY = 64  # number of inputs from which on conformers are generated in worker processes


def listed(inputs: Any) -> Sequence[Any] | Iterable[Any]:
    """The inputs as an iterable; a single input, such as a SMILES, becomes a list."""
    single = isinstance(inputs, str | Path | Structure) or library_of(inputs)
    return [inputs] if single else inputs


def read_inputs(inputs: Iterable[Any], options: ReadOptions | None = None) -> Iterator[Entry]:
    """Entries of all inputs, one after another; a file has one for each molecule."""
    return chain.from_iterable(read_input(source, options) for source in inputs)


def read_lines(stream: Iterable[bytes], name: str = "standard input") -> Iterator[Entry]:
    """Entries of a stream of SMILES lines, as in a `.smi` file, without read-ahead."""
    for number, raw in enumerate(stream, start=1):
        where = f"{name}, line {number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = InputError(f"{where}: byte {raw[error.start]:#x} is not UTF-8: convert the input, as by iconv")
            yield Entry(where, where=where, error=problem)
            continue
        if line.strip() and not line.startswith("#"):
            smiles, *title = line.split(maxsplit=1)
            yield Entry(title[0].strip() if title else smiles, where=where, smiles=smiles)


def processes_for(inputs: Iterable[Any], asked: int | None) -> int:
    """Number of worker processes for conformers: as requested, or all cores if there may be many molecules."""
    if asked is not None:
        return asked
    many = not isinstance(inputs, Sequence) or len(inputs) >= MANY
    many = many or any(isinstance(source, str | Path) and is_file(source) for source in inputs)
    return (os.cpu_count() or 1) if many else 0


def policy_of(
    domain: Domain, conformers: int = 1, policy: ConformerPolicy | None = None, geometry: str | None = None
) -> ConformerPolicy:
    """Policy of conformer generation: by default that of the training set of the model.

    Raises:
        ConfigError: the number of conformers is not positive, or the geometry is unknown or not installed.
    """
    if conformers < 1:
        raise ConfigError(f"{conformers} conformers: use at least 1")
    if geometry not in (None, *get_args(GeometryChoice)):
        raise ConfigError(f"geometry '{geometry}' is not one of {', '.join(get_args(GeometryChoice))}")
    if policy is None:
        bare = "etkdg" in domain.geometries and not any("+" in geometry for geometry in domain.geometries)
        policy = ConformerPolicy("etkdg") if bare else ConformerPolicy()
    if geometry == "xtb":
        policy = replace(policy, method="etkdg+mmff+gfn2")
    return policy if policy.num_conformers >= conformers else replace(policy, num_conformers=conformers)


def with_geometries(
    entries: Iterable[Entry], policy: ConformerPolicy, processes: int, conformers: int
) -> Iterator[Entry]:
    """Entries with at most this number of conformers."""
    for entry in with_geometry(entries, policy, processes, every=conformers > 1):
        yield replace(entry, conformers=entry.conformers[: conformers - 1]) if entry.conformers else entry


def structure_of(runner: BatchRunner, molecule: Any) -> Structure:
    """The structure of a single molecule, with coordinates.

    Raises:
        MolformerError: it is not one molecule, or is not supported by the model.
    """
    entries = list(with_geometries(read_inputs(listed(molecule)), policy_of(runner.models[0].domain), 0, 1))
    if len(entries) != 1:
        raise InputError(f"one molecule at a time, and there are {len(entries)}")
    job = runner.job(entries[0])
    if job.error is not None:
        raise job.error
    return job.structures[0]
