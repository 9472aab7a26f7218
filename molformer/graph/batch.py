"""GraphBatch: several structures as tensors, one after another.

Graph b owns the nodes ptr[b]:ptr[b+1]. Edges may be given; where they are not, a model makes the radius graph it
needs, on the device of the positions. Letters: N nodes, E edges, B graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from molformer.errors import InputError

if TYPE_CHECKING:
    from molformer.data.structure import Structure


@dataclass(eq=False)
class GraphBatch:
    """Graphs of a batch.

    Args:
        numbers: atomic numbers (N,).
        pos: positions (N, 3), Å.
        ptr: first node of each graph and N (B+1,).
        batch: graph of each node (N,).
        charge: total charge of each graph (B,), e.
        src: sending nodes (E,), or None to have a model make the edges.
        dst: receiving nodes (E,), or None.
        labels: values by label name, (B, …) or (N, …), NaN where missing.
        features: further numbers of each node (N, F), NaN where a structure has none; None if no structure has.
        cell: lattice vectors of each graph as rows (B, 3, 3), Å, zeros where nothing is periodic; None if no graph is.
        pbc: which lattice vectors are periodic (B, 3); None if no graph is.
        shift: cells that each edge crosses (E, 3); None if no graph is periodic.
        edge_features: numbers of each edge that is given (E, F), for models that take some.
        spin: multiplicity 2S+1 of each graph (B,); None counts as 1.
        atom_features: of the molecular graph (N, 6), see `data.molecular_graph`; None if no structure has one.
        bonds: pairs of nodes (b, 2), each bond once, or None.
        bond_features: of each bond (b, 3), or None.

    Example:
        >>> from molformer.data.structure import Structure
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> GraphBatch.from_structures([water, water]).batch
        tensor([0, 0, 0, 1, 1, 1])
    """

    numbers: Tensor
    pos: Tensor
    ptr: Tensor
    batch: Tensor
    charge: Tensor
    src: Tensor | None = None
    dst: Tensor | None = None
    labels: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None
    shift: Tensor | None = None
    edge_features: Tensor | None = None
    spin: Tensor | None = None
    atom_features: Tensor | None = None
    bonds: Tensor | None = None
    bond_features: Tensor | None = None

    @classmethod
    def from_structures(cls, structures: Sequence["Structure"], dtype: torch.dtype = torch.float32) -> Self:
        """Collate structures; labels that the first one has are taken from all of them.

        Positions far from the origin are moved to it first, where `dtype` loses nothing, see `Structure.near_origin`.

        Raises:
            InputError: their features differ in width.
        """
        sizes = np.array([len(structure) for structure in structures])
        labels = {}
        for name, first in structures[0].labels.items():
            values = [structure.labels[name] for structure in structures]
            per_node = first.shape[:1] == (sizes[0],) and all(
                value.shape[:1] == (size,) for value, size in zip(values, sizes, strict=True)
            )
            labels[name] = torch.from_numpy(np.concatenate(values) if per_node else np.stack(values))
        return cls(
            numbers=torch.from_numpy(np.concatenate([structure.numbers for structure in structures])),
            pos=torch.from_numpy(np.concatenate([structure.near_origin() for structure in structures])).to(dtype),
            ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            charge=torch.tensor([structure.charge for structure in structures], dtype=dtype),
            labels=labels,
            features=_features(structures, dtype),
            spin=torch.tensor([structure.spin for structure in structures]),
            **_cells(structures, dtype),
            **_molecular_graphs(structures),
        )

    @property
    def num_graphs(self) -> int:
        """B."""
        return len(self.ptr) - 1

    @property
    def sizes(self) -> Tensor:
        """Nodes of each graph (B,)."""
        return self.ptr.diff()

    def sorted_by_dst(self) -> Self:
        """The same graph with its edges, if they are given, sorted by receiver; itself if they are."""
        if self.src is None or self.dst is None:
            return self
        # While a CUDA graph is recorded no value may be looked at; what it computes with is sorted.
        if self.dst.is_cuda and torch.cuda.is_current_stream_capturing():
            return self
        if bool((self.dst[1:] >= self.dst[:-1]).all()):
            return self
        order = torch.argsort(self.dst, stable=True)
        shift = None if self.shift is None else self.shift[order]
        features = None if self.edge_features is None else self.edge_features[order]
        return replace(self, src=self.src[order], dst=self.dst[order], shift=shift, edge_features=features)

    def sum_over_graphs(self, x: Tensor) -> Tensor:
        """Sum of node values (N, …) in each graph: (B, …)."""
        if self.num_graphs == 1:
            return x.sum(0, keepdim=True)
        return x.new_zeros(self.num_graphs, *x.shape[1:]).index_add_(0, self.batch, x)

    def mean_over_graphs(self, x: Tensor) -> Tensor:
        """Mean of node values (N, …) in each graph: (B, …)."""
        if self.num_graphs == 1:
            return x.mean(0, keepdim=True)
        return self.sum_over_graphs(x) / self.sizes.to(x.dtype).view(-1, *[1] * (x.ndim - 1))

    def max_over_graphs(self, x: Tensor) -> Tensor:
        """Largest of node values (N, K) in each graph: (B, K)."""
        graphs = self.batch[:, None].expand_as(x)
        return x.new_full((self.num_graphs, x.shape[1]), -torch.inf).scatter_reduce(0, graphs, x, "amax")

    def to(self, device: torch.device | str) -> "GraphBatch":
        """The same batch on another device; itself if it is there."""
        if self.pos.device == torch.device(device):
            return self
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        labels = {name: value.to(device, non_blocking=True) for name, value in self.labels.items()}
        return replace(self, **moved, labels=labels)


def _cells(structures: Sequence["Structure"], dtype: torch.dtype) -> dict[str, Tensor]:
    if all(structure.cell is None for structure in structures):
        return {}
    cells = [np.zeros((3, 3)) if structure.cell is None else structure.cell for structure in structures]
    pbc = [(False,) * 3 if structure.cell is None else structure.pbc for structure in structures]
    return {"cell": torch.from_numpy(np.stack(cells)).to(dtype), "pbc": torch.tensor(pbc)}


def _molecular_graphs(structures: Sequence["Structure"]) -> dict[str, Tensor]:
    graphs = [structure.molecular_graph for structure in structures]
    first = next((graph for graph in graphs if graph is not None), None)
    if first is None:
        return {}
    whole = first.joined([graph or first.unknown(len(each)) for graph, each in zip(graphs, structures, strict=True)])
    return {name: torch.from_numpy(value) for name, value in vars(whole).items()}


def _features(structures: Sequence["Structure"], dtype: torch.dtype) -> Tensor | None:
    widths = {structure.features.shape[1] for structure in structures if structure.features is not None}
    if not widths:
        return None
    if len(widths) > 1:
        raise InputError(f"structures with {' and '.join(map(str, sorted(widths)))} features do not fit into one batch")
    missing = (np.full((len(structure), *widths), np.nan) for structure in structures)
    values = [
        none if structure.features is None else structure.features
        for structure, none in zip(structures, missing, strict=True)
    ]
    return torch.from_numpy(np.concatenate(values)).to(dtype)
