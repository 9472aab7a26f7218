"""The least time that a machine could take for a model: its multiplications and its memory traffic.

Counted from the formulas of the layers, not from the code. A product of (a, b) and (b, c) is 2abc operations; what
acts on single numbers (softmax, gates, norms) is not counted, so that the floor is below what is possible.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, A of keys and values, F edge features, K basis
functions, R radial functions, T = Σ_l (2l+1)² numbers of an edge's frame that are not zero, n_m = lmax+1-m degrees with
order m.
"""

from typing import Literal

from benchmarks.machine import Reach
from benchmarks.peers.protocol import Mode
from molformer.models.config import SE3TransformerConfig

Turns = Literal["blocks", "dense"]
"""Whether turning into a frame is counted degree by degree, as it must be, or as a product with all of (M, M)."""

TIMES: dict[Mode, dict[str, int]] = {
    "forward": {"linear": 1, "basis": 1, "turns": 1, "frames": 1},
    "training": {"linear": 3, "basis": 2, "turns": 2, "frames": 1},
    "forces": {"linear": 6, "basis": 6, "turns": 7, "frames": 3},
}
"""How often the products of the forward are made again, by kind.

A map y = Wx needs two products in a backward, for W and x; the one of the radial basis, for W alone. Frames D do not
depend on the weights, so y = Dx needs one.
Forces are a backward to the positions (one for a map; two for a turn, to D and x), and the backward through both
(four for a map: from y and from the gradient of x, to W and what it came from; four for a turn).
"""

SWEEPS: dict[Mode, int] = {"forward": 1, "training": 2, "forces": 4}
"""How often everything is read again: once in each forward and backward."""


def products(
    config: SE3TransformerConfig, nodes: int, edges: int, turns: Turns = "blocks", order: str = "least"
) -> dict[str, float]:
    """Floating-point operations of one forward with one scalar head, by the kinds of `TIMES`.

    Args:
        config: of the encoder.
        nodes: N.
        edges: E.
        turns: how frames are applied.
        order: of the kernel's products, by its name in `kernel`.
    """
    lmax, c, a, f = config.lmax, config.channels, config.attended, config.edge_features
    m = (lmax + 1) ** 2
    frame = m * m if turns == "dense" else _frame_numbers(lmax)
    hidden = config.feed_forward * c
    maps = c * c + (2 if a == c else 3) * c * a  # self; query, output and, of narrow messages, what is sent
    per_node = m * maps + 2 * m * c * hidden + lmax * c * hidden  # and expand, reduce; gates
    per_edge = kernel(config)[order]
    shared = edges * f * f + nodes * (c * c + c)  # edge network and head
    monomials = (2 * lmax + 1) * (lmax + 1)
    return {
        "linear": 2.0 * (config.num_layers * (nodes * per_node + edges * per_edge) + shared),
        "basis": 2.0 * edges * config.basis_size * f,
        "turns": 2.0 * config.num_layers * edges * 3 * frame * a,
        "frames": 2.0 * edges * frame * monomials * (2 if turns == "dense" else 1) if lmax else 0.0,
    }


def kernel(config: SE3TransformerConfig) -> dict[str, float]:
    """Multiplications of the kernel for one edge and layer, keys and values together, in the orders that are known.

    Returns:
        `four`: the products with a and b of both x_+m and x_-m; `three`: the same with sums of them, as complex numbers
        are multiplied (with E(3) there is no b, and two do for both); for `full`, whose a and b are Σ_r h_r W_r, these
        are products of (h ⊗ x), and `written` is with the edge's own a and b written out first; `least` of them.
    """
    lmax, c, f = config.lmax, config.attended, config.edge_features
    counts = [(lmax + 1 - m) ** 2 * 2.0 * c * c for m in range(lmax + 1)]
    straight, pairs, mixes = counts[0], sum(counts[1:]), config.group == "SE(3)"
    orders = {"four": straight + (4 if mixes else 2) * pairs, "three": straight + (3 if mixes else 2) * pairs}
    if config.convolution == "separable":
        scales = f * (lmax + 1) * (lmax + 2) // 2 * c
        orders = {name: scales + count for name, count in orders.items()}
    else:
        trunk, radial = f * config.radial, config.radial
        written = trunk + radial * (straight + (2 if mixes else 1) * pairs) + orders["three"]
        orders = {name: trunk + radial * count for name, count in orders.items()} | {"written": written}
    return orders | {"least": min(orders.values())}


def flops(config: SE3TransformerConfig, nodes: int, edges: int, mode: Mode) -> float:
    """Floating-point operations that a step needs."""
    return sum(TIMES[mode][kind] * count for kind, count in products(config, nodes, edges).items())


def traffic(config: SE3TransformerConfig, nodes: int, edges: int, parameters: int, mode: Mode) -> float:
    """Bytes, in float32, that a step must read or write at least.

    In a layer: its weights; the node features, read and written by attention and by the feed-forward; of each edge its
    frame, its features and both ends. What is made of an edge within a layer need never leave the cache.
    """
    features = nodes * (config.lmax + 1) ** 2 * config.channels
    edge = _frame_numbers(config.lmax) + config.edge_features + 4  # the ends are 64-bit
    sweep = parameters + config.num_layers * (4 * features + edges * edge)
    return 4.0 * (SWEEPS[mode] * sweep + edges * edge)


def floor_seconds(
    config: SE3TransformerConfig, nodes: int, edges: int, parameters: int, mode: Mode, reach: Reach
) -> float:
    """Seconds below which this machine cannot do the step: the longer of computing and moving."""
    computing = flops(config, nodes, edges, mode) / reach.flops
    return max(computing, traffic(config, nodes, edges, parameters, mode) / reach.bandwidth)


def _frame_numbers(lmax: int) -> int:
    return sum((2 * degree + 1) ** 2 for degree in range(lmax + 1))
