"""Conformer generation for a stream of entries, in order: in this process, in workers, or from a cache."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from molformer.data.conformers import ConformerPolicy, canonical_smiles, largest_part
from molformer.data.geometry_cache import GeometryCache
from molformer.data.readers.entry import Entry
from molformer.data.workers import Outcome, WorkerPool, outcome_of, outcomes_of
from molformer.errors import ConformerError, MolformerError
from molformer.structure import Structure

Job = tuple[Entry, Any]
"""An entry and what is to be computed from for it, such as the SMILES to embed; None if it is finished."""

CHUNK = 16
"""Number of molecules sent to a worker at a time, some tenths of a second of work; the first chunks are smaller."""

WINDOW = 4
"""Number of chunks read ahead for each worker."""


def with_geometry(
    entries: Iterable[Entry],
    policy: ConformerPolicy | None = None,
    processes: int = 0,
    cache: str | os.PathLike[str] | None = None,
    every: bool = False,
) -> Generator[Entry, None, None]:
    """The same entries, where those with only a SMILES have a structure or an error.

    Args:
        entries: of readers, consumed lazily.
        policy: of conformer generation.
        processes: number of worker processes; 0 for none. The results are the same, but only workers can abort a
            molecule that exceeds `time_limit` or crashes RDKit.
        cache: folder of geometries and failures of earlier calls, to which new ones are added.
        every: return all conformers of the policy, see `Entry.conformers`, not only the best.

    Raises:
        StoreError: the cache cannot be written.

    Example:
        >>> [entry.structure.formula for entry in with_geometry([Entry("water", smiles="O")])]
        ['H2O']
    """
    policy = policy or ConformerPolicy()
    embed = partial(outcomes_of if every else outcome_of, policy, cache is not None)
    with GeometryCache(cache, policy, every) if cache is not None else contextlib.nullcontext() as store:
        jobs = (_job(entry, policy, store) for entry in entries)
        with contextlib.closing(computed(jobs, embed, processes, time_limit(policy))) as results:
            for (entry, smiles), outcome in results:
                if outcome is None:
                    yield entry
                    continue
                if store is not None:
                    store.put(smiles, outcome)
                yield with_outcome(entry, outcome)


def computed(
    jobs: Iterable[Job], function: Callable[[Any], Any], processes: int, limit: float
) -> Generator[tuple[Job, Any], None, None]:
    """Jobs with their outcomes, in order; None where there was nothing to do. A worker gives one up after `limit` s."""
    if not processes:
        for job in jobs:
            yield job, None if job[1] is None else function(job[1])
        return
    with WorkerPool(function, processes, limit, spare=True) as pool:
        for finished, outcomes in _in_order(_chunks(jobs, processes), pool, processes * WINDOW):
            remaining = iter(outcomes)
            for job in finished:
                yield job, None if job[1] is None else next(remaining)


def time_limit(policy: ConformerPolicy) -> float:
    """Time limit of a molecule in a worker, s: for each conformer, two embeddings and the relaxation."""
    return (30.0 if policy.relaxes_by_gfn2 else 3.0) * policy.timeout * policy.num_conformers


def _job(entry: Entry, policy: ConformerPolicy, cache: GeometryCache | None) -> Job:
    """The SMILES to embed for an entry, if any."""
    if entry.structure is not None or entry.error is not None:
        return entry, None
    try:
        if policy.salts == "largest" and "." in entry.smiles:
            entry = replace(entry, smiles=largest_part(entry.smiles))
        if cache is None:
            return entry, entry.smiles
        canonical = canonical_smiles(entry.smiles, policy.add_hydrogens)
    except MolformerError as error:
        return with_outcome(entry, error), None
    outcome = cache.get(canonical)
    return (entry, canonical) if outcome is None else (with_outcome(entry, outcome), None)


def with_outcome(entry: Entry, outcome: Outcome) -> Entry:
    """The entry with its geometry, or with an error that includes its location."""
    if isinstance(outcome, tuple):
        first, *others = (one.annotated(entry.smiles, entry.where, labels=entry.labels) for one in outcome)
        return replace(entry, structure=first, conformers=tuple(others))
    if isinstance(outcome, Structure):
        return with_outcome(entry, (outcome,))
    where = f"{entry.where}: " if entry.where else ""
    subject = f"'{entry.smiles}' " if isinstance(outcome, ConformerError) else ""
    return replace(entry, error=type(outcome)(f"{where}{subject}{outcome}"))


def _chunks(jobs: Iterable[Job], processes: int) -> Iterator[list[Job]]:
    """Jobs in chunks that grow from 1 to `CHUNK`, for low latency and load balance of few jobs."""
    remaining = iter(jobs)
    count = 0
    while chunk := list(islice(remaining, min(CHUNK, 1 + count // processes))):
        yield chunk
        count += 1


def _in_order(chunks: Iterable[list[Job]], pool: WorkerPool, window: int) -> Iterator[tuple[list[Job], list[Outcome]]]:
    """Chunks with their outcomes, in order, with at most `window` in progress."""
    pending: deque[tuple[list[Job], Future[list[Outcome]]]] = deque()
    for jobs in chunks:
        pending.append((jobs, pool.submit([given for _, given in jobs if given is not None])))
        while pending and (len(pending) >= window or pending[0][1].done()):
            finished, future = pending.popleft()
            yield finished, future.result()
    for finished, future in pending:
        yield finished, future.result()
