"""BatchRunner: batches of entries that fit into memory, and the outputs of all models for them.

The memory that a prediction needs is approximately proportional to the number of edges.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.spatial import cKDTree

from molformer.data.hydrogens import heavy_atoms
from molformer.data.readers import Entry
from molformer.errors import InputError, MolformerError, TooLargeError
from molformer.graph.periodic import count_periodic
from molformer.models.forward import Output, run
from molformer.models.property import PropertyModel
from molformer.structure import Structure
from molformer.targets import Label
from molformer.uncertainty.applicability import lacks_inputs, unsupported

MOST_WAITING = 512  # largest number of jobs in a batch, including failed ones, which do not count towards `batch_size`


_FEW = 32  # number of atoms up to which all pairs are counted
_TENSORS = 6  # number of simultaneously allocated tensors of edge features; of each layer, if there are gradients
_LARGEST_IN_HEAP = 1 << 25  # bytes, of pieces that glibc ever takes from its heap; it maps larger ones each by itself


@dataclass(frozen=True, eq=False)
class Job:
    """A checked entry."""

    entry: Entry  # the input
    structures: tuple[Structure, ...] = ()  # its geometries as the models take them; empty if there is an error
    edges: tuple[int, ...] = ()  # number of edges of each geometry
    error: MolformerError | None = None  # why there is no prediction


class BatchRunner:
    """Runs models on batches of at most `batch_size` geometries, of which each takes at most `memory` GiB."""

    def __init__(self, models: Sequence[PropertyModel], batch_size: int, memory: float) -> None:
        self.models = tuple(models)
        self.batch_size = batch_size
        self.memory = memory
        self.edge_bytes = max(edge_bytes(model) for model in self.models)
        self.cutoff = max(model.config.cutoff for model in self.models)
        self.most_edges = int(memory * 2**30 / self.edge_bytes)
        keep_freed_memory()

    def job(self, entry: Entry) -> Job:
        """Check an entry: its geometries and their edges, or the error."""
        if entry.error is not None or entry.structure is None:
            return Job(entry, error=entry.error)
        structures = (entry.structure, *entry.conformers)
        try:
            if self.models[0].config.hydrogens == "implicit":
                structures = tuple(map(heavy_atoms, structures))
            if wanted := self.models[0].descriptor_set:
                from molformer.data.descriptors import with_inputs

                structures = with_inputs(wanted, structures)
        except InputError as error:
            return Job(entry, error=error)
        for model in self.models:
            unknown = unsupported(model.domain, structures[0], entry.name)
            if reason := unknown or lacks_inputs(model.config, structures[0], entry.name):
                return Job(entry, error=reason)
        try:
            edges = tuple(count_edges(structure, self.cutoff) for structure in structures)
        except TooLargeError as error:
            return Job(entry, error=TooLargeError(f"{entry.name}: {error}"))
        if max(edges) > self.most_edges:
            message = (
                f"{entry.name}: {len(structures[0])} atoms with {max(edges)} edges need about "
                f"{max(edges) * self.edge_bytes / 2**30:.3g} GiB, more than the {self.memory:g} GiB of a batch: raise "
                "the memory of the predictor"
            )
            return Job(entry, error=TooLargeError(message))
        return Job(entry, structures, edges)

    def batches(self, entries: Iterable[Entry]) -> Iterator[list[Job]]:
        """Batches of jobs within the limits; only the conformers of a single molecule may exceed them."""
        batch: list[Job] = []
        geometries = edges = 0
        for entry in entries:
            job = self.job(entry)
            full = geometries + len(job.structures) > self.batch_size or edges + sum(job.edges) > self.most_edges
            if batch and (full or len(batch) == MOST_WAITING):
                yield batch
                batch, geometries, edges = [], 0, 0
            batch.append(job)
            geometries, edges = geometries + len(job.structures), edges + sum(job.edges)
        if batch:
            yield batch

    def computed(
        self, batches: Iterable[list[Job]], targets: Sequence[Label]
    ) -> Iterator[tuple[list[Job], Iterator[list[Output]]]]:
        """Batches with their outputs, in order."""
        return ((batch, self.outputs(batch, targets)) for batch in batches)

    def outputs(self, batch: Sequence[Job], targets: Sequence[Label]) -> Iterator[list[Output]]:
        """Outputs of all models for each geometry of a batch, in its order."""
        structures = [structure for job in batch for structure in job.structures]
        return self.outputs_of(structures, [edges for job in batch for edges in job.edges], targets)

    def outputs_of(
        self, structures: Sequence[Structure], edges: Sequence[int], targets: Sequence[Label]
    ) -> Iterator[list[Output]]:
        """Outputs of all models for each structure, in order, given the numbers of edges."""
        for start, stop in pairwise(_cuts(edges, self.most_edges, self.batch_size)):
            of_models = [run(model, structures[start:stop], targets) for model in self.models]
            yield from (list(outputs) for outputs in zip(*of_models, strict=True))


def keep_freed_memory() -> None:
    """Let glibc retain up to 64 MiB of freed memory, instead of returning it to the system after each layer.

    Batches of molecules differ in size, and glibc gives the end of its heap back whenever twice as much is free as the
    largest piece had that was freed so far (mallopt(3), M_MMAP_THRESHOLD); every page then comes back by a page fault.
    So a large piece is freed, of which no page was ever touched. Other C libraries take no notice.
    """
    torch.empty(_LARGEST_IN_HEAP - (1 << 16), dtype=torch.uint8)


def _cuts(costs: Sequence[int], limit: int, most: int) -> list[int]:
    """Boundaries of consecutive pieces with at most `most` items and a total cost of at most `limit`."""
    cuts, total = [0], 0
    for place, cost in enumerate(costs):
        if place > cuts[-1] and (total + cost > limit or place - cuts[-1] == most):
            cuts.append(place)
            total = 0
        total += cost
    return [*cuts, len(costs)] if costs else [0]


def edge_bytes(model: PropertyModel) -> int:
    """Upper estimate of the peak memory of a prediction per edge, bytes."""
    config = model.config
    components = (config.lmax + 1) ** 2
    bytes_per_number = next(model.parameters()).element_size()
    frames = 3 * components**2 + 4 * config.edge_features
    features = _TENSORS * components * config.channels * (config.num_layers if model.derived else 1)
    if config.architecture == "paper":
        features += 4 * config.radial * config.channels
    return bytes_per_number * (frames + features)


def count_edges(structure: Structure, cutoff: float) -> int:
    """Upper bound of the number of edges: all pairs of a small structure, else pairs within the cutoff (Å).

    Raises:
        TooLargeError: a periodic structure has far too many images within the cutoff.
    """
    atoms = len(structure)
    if structure.cell is not None:
        return count_periodic(structure.pos, structure.cell, np.array(structure.pbc), cutoff)
    if atoms <= _FEW:
        return atoms * (atoms - 1)
    tree = cKDTree(structure.pos)
    return int(tree.count_neighbors(tree, cutoff)) - atoms
