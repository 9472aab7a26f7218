"""Objectives of self-supervised pretraining: losses that need no reference calculation, each with a head of its own.

An objective may corrupt the input, and reads from the features of the corrupted graph what was there before:

- `denoising`: the noise ε on the positions r + σ ε (Godwin et al. 2021, arXiv 2106.07971; Zaidi et al. 2022, arXiv
  2206.00133); |v_i - ε_i|² of a vector v_i read from degree 1.
- `masking`: the elements of hidden atoms, and the orders of their bonds (Hu et al. 2020, arXiv 1905.12265);
  cross-entropy.
- `descriptors`: RDKit's descriptors (Burns et al. 2025, arXiv 2506.15792), in units of their spread; Huber loss.

Their weights are `objectives` of a `TrainingConfig`. Letters: N nodes, B graphs, M components, C channels, K
descriptors.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.elements import MAX_NUMBER
from molformer.graph import GraphBatch
from molformer.molecular_graph import UNKNOWN
from molformer.nn.readout import AtomVectorHead, PooledHead
from molformer.targets.losses import masked_loss_sum
from molformer.targets.statistics import robust_statistics

HIDDEN = 0  #: atomic number of an atom whose element is hidden: that of a site that is no atom
ORDERS = 5  #: orders of a bond, see `molecular_graph.BOND_FEATURES`
WHOLE = 0.5  #: share of the molecules in which no atom is hidden, so that an encoder also sees what it will be used for
CLIP = 6.0  #: largest descriptor, in units of its spread


class Objective(nn.Module, ABC):
    """What a corrupted graph is to tell about the whole one."""

    corrupts = True
    """Whether it changes the graph; if not, its loss is measured on the validation part too."""

    def corrupt(self, graph: GraphBatch) -> GraphBatch:
        """The graph that the encoder sees; chance is torch's."""
        return graph

    @abstractmethod
    def forward(self, x: Tensor, corrupted: GraphBatch, graph: GraphBatch) -> tuple[Tensor, Tensor]:
        """Sum of the losses over what is to be told, and the number of that.

        Args:
            x: features (N, M, C) of the corrupted graph.
            corrupted: what the encoder saw.
            graph: the whole graph.
        """


class Denoising(Objective):
    """Reads the noise on the positions.

    Args:
        channels: C.
        sigma: standard deviation σ of the noise, Å.
    """

    def __init__(self, channels: int, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.head = AtomVectorHead(channels)

    def corrupt(self, graph: GraphBatch) -> GraphBatch:
        """Noise on the positions, without a shift of the molecule, which could not be told."""
        noise = self.sigma * torch.randn_like(graph.pos)
        noise = noise - graph.mean_over_graphs(noise).index_select(0, graph.batch)
        return replace(graph, pos=graph.pos + noise, src=None, dst=None, shift=None)

    def forward(self, x: Tensor, corrupted: GraphBatch, graph: GraphBatch) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`."""
        noise = (corrupted.pos.detach() - graph.pos) / self.sigma
        error = (self.head(x, corrupted) - noise).square().sum(-1)
        return error.sum(), torch.tensor(len(error), device=error.device)


class Masking(Objective):
    """Reads the elements of hidden atoms other than hydrogen, and the orders of their bonds.

    Args:
        channels: C.
        share: of these atoms that are hidden, in the molecules that are not left whole.
    """

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, MAX_NUMBER + 1))
        self.bonds = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, ORDERS))

    def corrupt(self, graph: GraphBatch) -> GraphBatch:
        """Atomic numbers of some atoms replaced by `HIDDEN`, without their chemistry and bonds."""
        whole = torch.rand(graph.num_graphs, device=graph.pos.device) < WHOLE
        hidden = torch.rand(len(graph.numbers), device=graph.pos.device) < self.share
        hidden = hidden & ~whole[graph.batch] & (graph.numbers > 1)
        corrupted = replace(graph, numbers=graph.numbers.masked_fill(hidden, HIDDEN))
        if graph.atom_features is None or graph.bonds is None or graph.bond_features is None:
            return corrupted
        kept = ~hidden[graph.bonds].any(1)
        features = graph.atom_features.masked_fill(hidden[:, None], UNKNOWN)
        return replace(
            corrupted, atom_features=features, bonds=graph.bonds[kept], bond_features=graph.bond_features[kept]
        )

    def forward(self, x: Tensor, corrupted: GraphBatch, graph: GraphBatch) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`."""
        hidden = corrupted.numbers != graph.numbers
        losses = functional.cross_entropy(self.head(x[:, 0]), graph.numbers, reduction="none")
        total, count = torch.where(hidden, losses, 0.0).sum(), hidden.sum()
        if graph.bonds is None or graph.bond_features is None:
            return total, count
        lost = hidden[graph.bonds].any(1)
        ends = x[:, 0][graph.bonds].sum(1)
        losses = functional.cross_entropy(self.bonds(ends), graph.bond_features[:, 0], reduction="none")
        return total + torch.where(lost, losses, 0.0).sum(), count + lost.sum()


class Descriptors(Objective):
    """Reads labels of the graph, in units of their spread.

    Args:
        channels: C.
        names: of the labels, K.
    """

    corrupts = False
    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.head = _GraphHead(channels, len(names))
        self.register_buffer("centre", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(len(names), dtype=torch.float64))

    def set_statistics(self, values: np.ndarray) -> None:
        """Take median and spread of each label from a sample (n, K), NaN where missing; see `robust_statistics`."""
        for buffer, found in zip((self.centre, self.spread), robust_statistics(values), strict=True):
            buffer.copy_(torch.from_numpy(found))

    def forward(self, x: Tensor, corrupted: GraphBatch, graph: GraphBatch) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`."""
        values = torch.stack([graph.labels[name] for name in self.names], dim=-1)  # (B, K)
        scaled = ((values - self.centre) / self.spread).clamp(-CLIP, CLIP)  # NaN where missing
        scaled = torch.where(self.spread > 0, scaled, torch.nan)
        told = self.head(x, corrupted)
        return masked_loss_sum(told.flatten(), scaled.flatten(), torch.ones_like(self.spread[0]), "huber")


class _GraphHead(PooledHead):
    """Numbers of a graph, without a unit."""

    def forward(self, x: Tensor, graph: GraphBatch) -> Tensor:
        """Features (N, M, C) to numbers (B, K)."""
        return self.read(x, graph)
