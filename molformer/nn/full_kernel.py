"""FullConvolution: the kernel of the SE(3)-Transformer with all of its radial functions.

Fuchs et al. 2020 (arXiv 2006.10503), equation 8, in the edge's frame (see `nn.so2`). The radial functions are
combinations of R shared ones, h_e, so that y_e = Σ_r h_er (W_r x_e): the product of (h_e ⊗ x_e) with one matrix, and
the kernel of an edge is never materialised.
Letters: E edges, M components, C channels in, D channels out, O outputs, R radial functions, n_m degrees of order m.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from molformer.nn.so2 import EdgeConvolution, Group


class FullConvolution(EdgeConvolution):
    """The paper's kernel: a radial function of its own for every (l, k, J) and every pair of channels.

    For m > 0 of SE(3), three products do for the four of the block matrix:
        y_+ = a (x_+ + x_-) - (a+b) x_-,     y_- = a (x_+ + x_-) + (b-a) x_+.

    Example:
        >>> conv = FullConvolution(lmax=1, in_channels=4, out_channels=4, edge_features=16, group="E(3)", radial=8)
        >>> [tuple(weight.shape) for weight in conv.a]
        [(8, 8, 8), (8, 4, 4)]
    """

    def __init__(
        self,
        lmax: int,
        in_channels: int,
        out_channels: int,
        edge_features: int,
        group: Group,
        outputs: int = 1,
        radial: int = 32,
    ) -> None:
        super().__init__(lmax, in_channels, out_channels, edge_features, group, outputs, radial)
        self.trunk = nn.Sequential(nn.Linear(edge_features, radial), nn.SiLU())

    def radial(self, features: Tensor) -> Tensor:
        """Shared radial functions h (E, R)."""
        return self.trunk(features)

    def matrices(self) -> list[Tensor]:
        """(R·n_m·C, n_m·O·D) of each |m|: a, and after them, for each m > 0 of SE(3), a+b and b-a."""
        a = [weight.flatten(0, 1) for weight in self.outputs_last(self.a)]
        b = [weight.flatten(0, 1) for weight in self.outputs_last(self.b, first=1)]
        return a + [matrix for m, each in enumerate(b, start=1) for matrix in (a[m] + each, each - a[m])]

    def convolve(self, x: Tensor, radial: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """See `EdgeConvolution.convolve`."""
        mixed = []
        for m, part in enumerate(self.orders(x)):
            if m == 0 or self.group == "E(3)":
                mixed += [radial_product(radial, row, matrices[m]) for row in part.unbind(1)]
                continue
            plus, minus = part.unbind(1)
            a_plus_b, b_minus_a = matrices[self.lmax + 2 * m - 1 : self.lmax + 2 * m + 1]
            common = radial_product(radial, plus + minus, matrices[m])
            mixed.append(common - radial_product(radial, minus, a_plus_b))
            mixed.append(common + radial_product(radial, plus, b_minus_a))
        return self.join_orders(mixed)


def radial_product(h: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Σ_r h_er (W_r x_e) (E, D) of h (E, R), x (E, K), W (R·K, D); the backward makes h ⊗ x again, to save memory."""
    return checkpoint(_radial_product, h, x, matrix, use_reentrant=False, preserve_rng_state=False)


def _radial_product(h: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    return (h[:, :, None] * x[:, None]).flatten(1) @ matrix  # (E, R·K) (R·K, D)
