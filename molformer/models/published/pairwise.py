"""PairwiseConvolution: the kernel of the SE(3)-Transformer with a radial network of its own for each pair of degrees.

Fuchs et al. 2020 (arXiv 2006.10503), equation 8, W^{lk}(x) = Σ_J φ_J^{lk}(|x|) Σ_m Y_Jm(x̂) Q_Jm^{lk}, in the edge's
frame (see `nn.so2`). φ^{lk} is the last layer of a network of the edge's length and numbers, one for each pair k → l,
so that there are as many parameters as in the published models; `nn.full_kernel` shares one network among all pairs.

Letters: E edges, F edge features, k and l degrees of input and output, C channels in, D_l channels out, R radial
functions, n = 1 + 2 min(l, k) numbers of a kernel in the frame.
"""

from collections.abc import Sequence
from math import isqrt, sqrt

import torch
from torch import Tensor, nn

from molformer.nn.full_kernel import radial_product
from molformer.nn.so2 import Group
from molformer.so3 import frame_order

Rows = dict[tuple[int, int], Tensor]  # features of edges by degree and order (l, m): (E, C)


class RadialNet(nn.Sequential):
    """Edge features (E, F) to radial functions (E, R), as published: linear, layer norm if wanted, ReLU, twice."""

    def __init__(self, features: int, radial: int, norm: bool = True) -> None:
        layers: list[nn.Module] = []
        for size in (features, radial):
            layers += [nn.Linear(size, radial), nn.LayerNorm(radial) if norm else nn.Identity(), nn.ReLU()]
        super().__init__(*layers)


class PairwiseConvolution(nn.Module):
    """The paper's kernel from degrees 0 … in_lmax with C channels to degrees 0, 1, … with D_l channels; with group
    `E(3)` it is equivariant under reflections too.

    Example:
        >>> kernel = PairwiseConvolution(1, 8, [4, 4], edge_features=1, group="SE(3)")
        >>> {pair: tuple(weight.shape) for pair, weight in kernel.weights.items()}["1,1"]
        (3, 256, 4)
    """

    def __init__(
        self,
        in_lmax: int,
        in_channels: int,
        out_channels: Sequence[int],
        edge_features: int,
        group: Group,
        radial: int = 32,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.group = group
        self.pairs = [(k, degree) for k in range(in_lmax + 1) for degree in range(len(out_channels))]
        self.radial = nn.ModuleDict({_name(*pair): RadialNet(edge_features, radial, norm) for pair in self.pairs})
        self.weights = nn.ParameterDict()
        for k, degree in self.pairs:
            numbers = 1 + min(k, degree) * (1 if group == "E(3)" else 2)
            scale = sqrt(2 / (radial * in_channels * (in_lmax + 1)))
            weight = scale * torch.randn(numbers, radial * in_channels, out_channels[degree])
            self.weights[_name(k, degree)] = nn.Parameter(weight)

    def forward(self, x: Rows, features: Tensor) -> Rows:
        """Features of senders by degree and order, and of edges (E, F), to what each edge carries in its frame."""
        y: Rows = {}
        for k, degree in self.pairs:
            h = self.radial[_name(k, degree)](features)
            weight = self.weights[_name(k, degree)]
            _add(y, (degree, 0), radial_product(h, x[k, 0], weight[0]))
            for m in range(1, min(k, degree) + 1):
                plus, minus = x[k, m], x[k, -m]
                if self.group == "E(3)":
                    _add(y, (degree, m), radial_product(h, plus, weight[m]))
                    _add(y, (degree, -m), radial_product(h, minus, weight[m]))
                    continue
                both = weight[2 * m - 1 : 2 * m + 1].transpose(0, 1).flatten(1)  # a and b beside each other
                a_plus, b_plus = radial_product(h, plus, both).chunk(2, dim=1)
                a_minus, b_minus = radial_product(h, minus, both).chunk(2, dim=1)
                _add(y, (degree, m), a_plus - b_minus)
                _add(y, (degree, -m), b_plus + a_minus)
        for (degree, _), row in list(y.items()):  # orders that no pair of degrees carries
            for order in range(-degree, degree + 1):
                y.setdefault((degree, order), torch.zeros_like(row))
        return y


def frame_rows(lmax: int) -> list[tuple[int, int]]:
    """Degree and order of each row of features in the frame of an edge.

    Example:
        >>> frame_rows(1)
        [(0, 0), (1, 0), (1, 1), (1, -1)]
    """
    return [(isqrt(place), place - isqrt(place) ** 2 - isqrt(place)) for place in frame_order(lmax)]


def _name(k: int, degree: int) -> str:
    return f"{k},{degree}"


def _add(y: Rows, row: tuple[int, int], value: Tensor) -> None:
    y[row] = y[row] + value if row in y else value
