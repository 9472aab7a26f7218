"""The kinds of targets that are known: those of the package, and those that were registered."""

from importlib.metadata import entry_points

from molformer.errors import ConfigError, InputError
from molformer.targets.kind import TargetKind
from molformer.targets.kinds import BUILT_IN

ENTRY_POINTS = "molformer.targets"
"""Group of entry points; their modules are imported when a kind is not known, also in other processes."""

_KINDS = {kind.name: kind for kind in BUILT_IN}


def register(kind: TargetKind) -> TargetKind:
    """Add a kind of target; labels, readers, models, training, prediction and tables then know it by its name.

    A kind registered before under the same name is replaced, as when a cell of a notebook is run again.

    Raises:
        ConfigError: it has the name of one of the package's own kinds.
    """
    if kind.name in {own.name for own in BUILT_IN}:
        raise ConfigError(f"'{kind.name}' is a kind of molformer itself: choose another name")
    _KINDS[kind.name] = kind
    return kind


def kind_of(name: str) -> TargetKind:
    """The kind of a name.

    Raises:
        InputError: it is not known.
    """
    if name not in _KINDS and name not in kind_names():
        raise InputError(
            f"kind '{name}' is not one of {', '.join(_KINDS)}; register a kind of your own before it is used"
        )
    return _KINDS[name]


def kind_of_shape(shape: tuple[int, ...], per_node: bool) -> TargetKind | None:
    """What values are of which nothing but the shape is known: the first kind that fits, no derivative, or None."""
    kinds = (kind for kind in _KINDS.values() if kind.per_node == per_node and not kind.derivative)
    return next((kind for kind in kinds if kind.fits(shape)), None)


def kind_names() -> tuple[str, ...]:
    """Names of all kinds, also of those that installed packages have by entry points."""
    for entry in entry_points(group=ENTRY_POINTS):
        entry.load()
    return tuple(_KINDS)
