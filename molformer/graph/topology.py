"""What lies between the two ends of an edge in the molecular graph: their bond, or how many bonds apart they are.

Letters: N nodes, E edges, b bonds.
"""

import torch
from torch import Tensor

FARTHEST = 4  # bonds between two nodes up to which they are counted

UNKNOWN, FARTHER, BONDED = 0, 1, FARTHEST + 1
NUM_CODES = BONDED + 5 * 2 * 2
"""Codes of an edge: without a molecular graph; more than `FARTHEST` bonds apart; between them the distance itself, from
2; and from the last on the kinds of bonds, see `bond_codes`."""


def edge_codes(known: Tensor, bonds: Tensor, bond_features: Tensor, src: Tensor, dst: Tensor) -> Tensor:
    """Code of each edge src → dst (E,), from 0 to below `NUM_CODES`.

    Walks along bonds (b, 2), each bond once, with their features (b, 3), reach the pairs of nodes that are 2, 3 and 4
    bonds apart, a small number for each node however large the graph is; edges then look themselves up among these
    pairs. Nodes (N,) are `known` if their structure has a molecular graph.

    Example:
        >>> chain, features = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[1, 0, 0], [2, 0, 0]])
        >>> known, src, dst = torch.tensor([True, True, True]), torch.tensor([0, 1, 0]), torch.tensor([1, 2, 2])
        >>> edge_codes(known, chain, features, src, dst)
        tensor([6, 7, 2])
    """
    nodes = len(known)
    edge = src * nodes + dst
    codes = torch.where(known.index_select(0, src), FARTHER, UNKNOWN)
    if not len(bonds):
        return codes
    ends = torch.cat([bonds, bonds.flip(1)])
    pairs, order = (ends[:, 0] * nodes + ends[:, 1]).sort()
    start, end = pairs // nodes, pairs % nodes
    degree = start.bincount(minlength=nodes)
    first = degree.cumsum(0) - degree
    found, here, there = [], start, end
    for distance in range(2, FARTHEST + 1):
        ways = degree[there]
        step = torch.arange(int(ways.sum()), device=src.device) - (ways.cumsum(0) - ways).repeat_interleave(ways)
        here, there = here.repeat_interleave(ways), end[first[there].repeat_interleave(ways) + step]
        reached = (here * nodes + there)[here != there].unique()
        here, there = reached // nodes, reached % nodes
        found.append((reached, torch.full_like(reached, distance)))
    # A walk of this length may lead to nearer nodes too: the shorter ones come last and count.
    for keys, values in (*reversed(found), (pairs, bond_codes(bond_features).repeat(2)[order])):
        if len(keys):
            place = torch.searchsorted(keys, edge).clamp(max=len(keys) - 1)
            codes = torch.where(known[src] & (keys[place] == edge), values[place], codes)
    return codes


def bond_codes(bond_features: Tensor) -> Tensor:
    """Codes of bonds (b,) of their order (0 to 4), conjugation and rings (b, 3)."""
    order, conjugated, in_ring = bond_features.unbind(1)
    return BONDED + order.clamp(0, 4) + 5 * conjugated.clamp(0, 1) + 10 * in_ring.clamp(0, 1)
