"""Chemical symbols and atomic numbers.

Number 0 stands for a site that is not an atom, such as a point of a point cloud.
"""

from collections.abc import Iterable

from molformer.errors import InputError

SYMBOLS = (
    "X "
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr "
    "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
"""Chemical symbols; the index is the atomic number Z."""

MAX_NUMBER = len(SYMBOLS) - 1

_NUMBER_OF = {symbol: number for number, symbol in enumerate(SYMBOLS)}


def number_of(symbol: str) -> int:
    """Atomic number of a chemical symbol, in any letter case.

    Raises:
        InputError: there is no such element.

    Example:
        >>> number_of("cl")
        17
    """
    try:
        return _NUMBER_OF[symbol.capitalize()]
    except KeyError:
        raise InputError(f"'{symbol}' is not a chemical symbol") from None


def formula(numbers: Iterable[int]) -> str:
    """Sum formula in Hill order: C, H, then the others by symbol.

    Example:
        >>> formula([8, 6, 6, 1, 1, 1, 1, 1, 1])
        'C2H6O'
    """
    symbols = [SYMBOLS[number] for number in numbers]
    counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    first = [symbol for symbol in ("C", "H") if "C" in counts and symbol in counts]
    order = first + [symbol for symbol in counts if symbol not in first]
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)
