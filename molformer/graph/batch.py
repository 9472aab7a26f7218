"""GraphBatch: several structures as tensors, one after another.

Graph b owns the nodes ptr[b]:ptr[b+1]. Edges may be given; where they are not, a model makes the radius graph it
needs, on the device of the positions. Letters: N nodes, E edges, B graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from molformer.structure import Structure


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
        descriptors: of each graph (B, D), NaN where missing; see `models.descriptors`.

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
    descriptors: Tensor | None = None

    @classmethod
    def from_structures(cls, structures: Sequence["Structure"], dtype: torch.dtype = torch.float32) -> Self:
        """Collate structures; labels that the first one has are taken from all of them.

        Positions far from the origin are moved to it first, where `dtype` loses nothing, see `Structure.near_origin`.

        Raises:
            InputError: their features differ in width.
        """
        from molformer.graph.collate import collate

        return cls(**collate(structures, dtype))

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

        def moved(values: dict[str, Any]) -> dict[str, Tensor]:
            return {key: each.to(device, non_blocking=True) for key, each in values.items() if isinstance(each, Tensor)}

        return replace(self, **moved(vars(self)), labels=moved(self.labels))
