"""Descriptors of a molecule joined to the readout: value = head(x) + s MLP([x̄, d]).

x̄ is the mean of the features of degree 0 over the atoms, d are standardised descriptors, s is the scale of the target.
They are computed by `data.descriptors` from the molecular graph, which no rotation changes. The last layer starts at
zero. Letters: N nodes, B graphs, M components, C channels, D descriptors, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.targets import Label

DescriptorChoice = Literal["none", "rdkit", "ecfp", "both"]
"""RDKit's 2-D descriptors, counts of circular substructures (ECFP4, Rogers & Hahn 2010, doi 10.1021/ci100050t)."""

HIDDEN = 128
"""Width of the MLP."""

DROPOUT = 0.3
"""Share of descriptors, and of hidden numbers, that a step of training does without."""

CLIP = 6.0
"""Largest standardised descriptor."""


@dataclass(frozen=True)
class DescriptorSet:
    """The descriptors of a model.

    Args:
        names: of RDKit's descriptors, as labels are called.
        bits: width of the fingerprint, 0 for none.
    """

    names: tuple[str, ...] = ()
    bits: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # JSON has lists

    def __len__(self) -> int:
        """D."""
        return len(self.names) + self.bits


class DescriptorReadout(nn.Module):
    """What descriptors add to the numbers and classes of a graph.

    Args:
        descriptors: which there are.
        channels: C.
        targets: of the model; those of atoms, vectors, tensors and derivatives are left as they are.
        drop: probability that a graph loses its descriptors in a step of training.

    Raises:
        ConfigError: no target is a number or class of a graph.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, descriptors: DescriptorSet, channels: int, targets: Sequence[Label], drop: float = 0.0) -> None:
        super().__init__()
        joined = [target for target in targets if not target.per_node and not target.shape]
        if not joined:
            raise ConfigError("descriptors are joined to numbers and classes of molecules, and no target is one: none")
        self.descriptors = descriptors
        self.drop = drop
        self.sizes = {target.name: max(1, len(target.classes)) for target in joined}
        self.register_buffer("centre", torch.zeros(len(descriptors), dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(len(descriptors), dtype=torch.float64))
        self.dropout = nn.Dropout(DROPOUT)
        first, last = nn.Linear(channels + len(descriptors) + 1, HIDDEN), nn.Linear(HIDDEN, sum(self.sizes.values()))
        self.net = nn.Sequential(first, nn.SiLU(), nn.Dropout(DROPOUT), last)
        for start in (first.weight[:, -1], last.weight, last.bias):  # what has not been trained adds nothing
            nn.init.zeros_(start)

    def set_statistics(self, centre: np.ndarray, spread: np.ndarray, present: np.ndarray) -> None:
        """Take median and spread of RDKit's descriptors, and the bits that are present, in the training part.

        A descriptor without a spread (0) and a bit that is not present are left out.
        """
        names = len(self.descriptors.names)
        self.centre[:names] = torch.from_numpy(centre)
        self.spread.copy_(torch.from_numpy(np.concatenate([spread, present])))

    def standardised(self, graph: GraphBatch) -> Tensor:
        """Descriptors (B, D+1) in units of their spread, 0 where missing; the last says where all are."""
        given, nothing = graph.descriptors, self.centre.new_full((graph.num_graphs, len(self.centre)), torch.nan)
        values = nothing if given is None else given.double()
        absent = values.isnan().all(1, keepdim=True)
        if self.training and self.drop:
            absent = absent | (torch.rand(len(values), 1, device=values.device) < self.drop)
        names = len(self.descriptors.names)
        values = torch.cat([values[:, :names], values[:, names:].log1p()], dim=1)
        scaled = ((values - self.centre) / self.spread).clamp(-CLIP, CLIP)
        scaled = torch.where((self.spread > 0) & ~absent, scaled.nan_to_num(), 0.0)
        return torch.cat([self.dropout(scaled), absent.double()], dim=1)

    def forward(self, x: Tensor, graph: GraphBatch) -> dict[str, Tensor]:
        """By target name, what is added to its value, in units of its scale: (B,), or (B, K) of classes.

        Args:
            x: features (N, M, C).
            graph: with `descriptors`, or without.
        """
        pooled = graph.mean_over_graphs(x[:, 0])
        parts = self.net(torch.cat([pooled, self.standardised(graph).to(x.dtype)], dim=1)).double()
        columns = zip(self.sizes, parts.split(list(self.sizes.values()), dim=1), strict=True)
        return {name: part if part.shape[1] > 1 else part[:, 0] for name, part in columns}
