"""Descriptors of a molecule joined to the readout of its numbers and classes.

They are computed by `data.descriptors` from the molecular graph. A value is head(x) + s f(x, d) with the scale s of the
target. Letters: N nodes, B graphs, M components, C channels, D descriptors, K classes, T numbers of all targets
together.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.targets import Label
from molformer.targets.statistics import robust_statistics

DescriptorChoice = Literal["none", "rdkit", "ecfp", "both"]
"""RDKit's 2-D descriptors, counts of circular substructures (ECFP4, Rogers & Hahn 2010, doi 10.1021/ci100050t)."""

DescriptorReadoutName = Literal["mlp", "gaussian_process"]  # see `DescriptorMLP`, `models.gaussian_process`
HIDDEN = 128  # width of the MLP
DROPOUT = 0.3  # share of descriptors, and of hidden numbers, that a step of training does without
CLIP = 6.0  # largest standardised descriptor


@dataclass(frozen=True)
class DescriptorSet:
    """The descriptors of a model."""

    names: tuple[str, ...] = ()  # of RDKit's descriptors, as labels are called
    bits: int = 0  # width of a fingerprint
    fingerprints: tuple[str, ...] = ()  # which, see `data.descriptors.FINGERPRINTS`
    support: int = 0  # molecules of a `GaussianProcess`, 0 for a `DescriptorMLP`
    entries: int = 0  # of the fingerprints of these molecules, see `GaussianProcess.set_support`

    def __post_init__(self) -> None:
        for name in ("names", "fingerprints"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists

    @property
    def inputs(self) -> Self:
        """The same without support: what a molecule brings along."""
        return replace(self, support=0, entries=0)

    def __len__(self) -> int:
        """D."""
        return len(self.names) + self.bits * len(self.fingerprints)


class DescriptorReadout(nn.Module, ABC):
    """What descriptors add to the numbers and classes of a graph; targets of atoms, vectors, tensors, their lengths and
    other moments, and derivatives are left as they are.

    Raises:
        ConfigError: no target is a number or class of a graph.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, descriptors: DescriptorSet, targets: Sequence[Label]) -> None:
        super().__init__()
        joined = [target for target in targets if not target.per_node and not target.target_kind.lmax]
        if not joined:
            raise ConfigError("descriptors are joined to numbers and classes of molecules, and no target is one: none")
        self.descriptors = descriptors
        self.sizes = {target.name: max(1, len(target.classes)) for target in joined}
        self.register_buffer("centre", torch.zeros(len(descriptors), dtype=torch.float64))
        self.register_buffer("spread", torch.zeros(len(descriptors), dtype=torch.float64))

    def set_statistics(self, inputs: np.ndarray) -> None:
        """Take median and spread of RDKit's descriptors from a sample (n, D), NaN where missing.

        Logarithms of counts are of one scale; what the sample does not have is left out.
        """
        known, counts = np.split(inputs, [len(self.descriptors.names)], axis=1)
        centre, spread = robust_statistics(known)
        self.centre[: len(centre)] = torch.from_numpy(centre)
        self.spread.copy_(torch.from_numpy(np.concatenate([spread, (counts > 0).any(axis=0)])))

    def standardised(self, inputs: Tensor) -> Tensor:
        """Descriptors (B, D) in units of their spread, 0 where missing."""
        names = len(self.descriptors.names)
        values = torch.cat([inputs[:, :names].double(), inputs[:, names:].double().log1p()], dim=1)
        scaled = ((values - self.centre) / self.spread).clamp(-CLIP, CLIP)
        return torch.where(self.spread > 0, scaled.nan_to_num(), 0.0)

    def forward(self, x: Tensor, graph: GraphBatch) -> dict[str, Tensor]:
        """By target name, what is added to its value (B,) or (B, K), in units of its scale; x is (N, M, C)."""
        columns = self.columns(x, graph).double().split(list(self.sizes.values()), dim=1)
        return {n: part if part.shape[1] > 1 else part[:, 0] for n, part in zip(self.sizes, columns, strict=True)}

    @abstractmethod
    def columns(self, x: Tensor, graph: GraphBatch) -> Tensor:
        """The same, side by side (B, T)."""


class DescriptorMLP(DescriptorReadout):
    """f is a feed-forward network of x̄, the mean features (C,) of degree 0, and of standardised descriptors; it starts
    at 0. With probability `drop` a graph loses its descriptors in a step of training.
    """

    def __init__(self, descriptors: DescriptorSet, channels: int, targets: Sequence[Label], drop: float = 0.0) -> None:
        super().__init__(descriptors, targets)
        self.drop = drop
        self.dropout = nn.Dropout(DROPOUT)
        first, last = nn.Linear(channels + len(descriptors) + 1, HIDDEN), nn.Linear(HIDDEN, sum(self.sizes.values()))
        self.net = nn.Sequential(first, nn.SiLU(), nn.Dropout(DROPOUT), last)
        for start in (first.weight[:, -1], last.weight, last.bias):  # what has not been trained adds nothing
            nn.init.zeros_(start)

    def inputs(self, graph: GraphBatch) -> Tensor:
        """Standardised descriptors (B, D+1), in training with dropout; the last says where all are missing."""
        given = graph.descriptors
        values = self.centre.new_full((graph.num_graphs, len(self.centre)), torch.nan) if given is None else given
        absent = values.isnan().all(1, keepdim=True)
        if self.training and self.drop:
            absent = absent | (torch.rand(len(values), 1, device=values.device) < self.drop)
        return torch.cat([self.dropout(self.standardised(values).masked_fill(absent, 0.0)), absent.double()], dim=1)

    def columns(self, x: Tensor, graph: GraphBatch) -> Tensor:
        """See `DescriptorReadout.columns`."""
        return self.net(torch.cat([graph.mean_over_graphs(x[:, 0]), self.inputs(graph).to(x.dtype)], dim=1))
