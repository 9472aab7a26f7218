"""Order of the components of a feature.

A node feature is one tensor (..., M, C) with M = (lmax+1)² components and C channels; component (l, m) is at
index l² + l + m. The basis of each degree is e3nn's: real spherical harmonics with polar axis y, so that degree 1 is
plain (x, y, z).
"""

from functools import cache

MAX_LMAX = 6  # highest degree for which tables are made


def num_components(lmax: int) -> int:
    """M = (lmax+1)², the components of all degrees up to lmax.

    Example:
        >>> num_components(3)
        16
    """
    return (lmax + 1) ** 2


def lmax_of(num: int) -> int:
    """The lmax of `num` components; inverse of `num_components`."""
    return round(num**0.5) - 1


def degree_slice(degree: int) -> slice:
    """Slice of the components of one degree."""
    return slice(degree**2, (degree + 1) ** 2)


@cache
def degree_of_component(lmax: int) -> tuple[int, ...]:
    """Degree l of each of the M components.

    Example:
        >>> degree_of_component(1)
        (0, 1, 1, 1)
    """
    return tuple(degree for degree in range(lmax + 1) for _ in range(2 * degree + 1))


@cache
def frame_order(lmax: int) -> tuple[int, ...]:
    """Component index at each place of the edge-frame order, which sorts by |m| first.

    m = 0 of all degrees, then m = +1, then m = -1, then +2, -2 and so on, degrees ascending within each m: what an
    SO(2)-linear map mixes is adjacent.

    Example:
        >>> frame_order(1)
        (0, 2, 3, 1)
    """
    orders = [0] + [sign * order for order in range(1, lmax + 1) for sign in (1, -1)]
    return tuple(degree**2 + degree + m for m in orders for degree in range(abs(m), lmax + 1))
