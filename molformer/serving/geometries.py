"""Geometries for SMILES, made by worker processes that outlive the requests.

A SMILES that crashes RDKit or takes too long costs its worker and not the server. Workers import this module, which
therefore imports nothing heavy.
"""

import asyncio
from dataclasses import replace
from functools import partial

from molformer.data.conformer_generation import with_outcome
from molformer.data.conformers import ConformerPolicy, canonical_smiles, embed_canonical, parse_smiles
from molformer.data.readers.entry import Entry
from molformer.data.workers import Outcome, WorkerPool
from molformer.errors import MolformerError, TooLargeError


def outcomes_of(policy: ConformerPolicy, most_atoms: int, task: str) -> Outcome:
    """Geometries of a SMILES, or the error that says why there are none.

    Args:
        policy: how they are made.
        most_atoms: that the molecule may have.
        task: their number, a blank, and the SMILES.

    Example:
        >>> len(outcomes_of(ConformerPolicy(), 50, "2 CCO"))
        2
    """
    number, _, smiles = task.partition(" ")
    try:
        atoms = parse_smiles(smiles).GetNumAtoms(onlyExplicit=False)
        if atoms > most_atoms:
            raise TooLargeError(f"'{smiles}' has {atoms} atoms, more than the {most_atoms} that this server takes")
        canonical = canonical_smiles(smiles, policy.add_hydrogens)
        return tuple(embed_canonical(canonical, replace(policy, num_conformers=int(number))))
    except MolformerError as error:
        return error


class Geometries:
    """Worker processes that make geometries.

    Args:
        policy: how they are made, apart from their number.
        processes: how many; they start with `start`, or when they are needed.
        most_atoms: that a molecule may have.
        seconds: that a molecule may take.
    """

    def __init__(self, policy: ConformerPolicy, processes: int, most_atoms: int, seconds: float) -> None:
        self.policy = policy
        self.processes = processes
        self.pool = WorkerPool(partial(outcomes_of, policy, most_atoms), processes, seconds)

    def start(self) -> None:
        """Start the processes, so that no request waits for them; returns at once."""
        for _ in range(self.processes):
            self.pool.submit(["1 C"])

    async def of(self, entry: Entry, conformers: int) -> Entry:
        """The entry with as many geometries as asked for; as it is if it has one already, or cannot have any."""
        if entry.structure is not None or entry.error is not None:
            return entry
        number = max(conformers, self.policy.num_conformers)
        outcomes = await asyncio.wrap_future(self.pool.submit([f"{number} {entry.smiles}"]))
        found = with_outcome(entry, outcomes[0])
        return replace(found, conformers=found.conformers[: conformers - 1])

    def close(self) -> None:
        """End the processes."""
        self.pool.close()
