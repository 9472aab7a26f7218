"""Earlier names of config keys, which are accepted with a `DeprecationWarning` until the next release.

Files that the package itself wrote under these names, such as the `config.json` of a model folder, are read silently.
"""

import warnings
from collections.abc import Mapping
from functools import wraps
from typing import Any, TypeVar

RENAMED = {
    "centre": "center",
    "divide": "channels_div",
    "input_edge_numbers": "input_edge_scalars",
    "input_numbers": "input_scalars",
    "neighbours": "max_neighbors",
    "up": "symmetry_axis",
}
"""Current names by the earlier ones."""

Config = TypeVar("Config")


def current_name(name: str, stacklevel: int = 2) -> str:
    """The current name of a key, with a warning if it was renamed."""
    if name in RENAMED:
        message = f"the config key '{name}' is now '{RENAMED[name]}'; the next release will not accept the earlier name"
        warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
    return RENAMED.get(name, name)


def current_names(values: Mapping[str, Any], stacklevel: int = 2) -> dict[str, Any]:
    """Values by the current names of their keys; a value under an earlier name takes precedence."""
    names = sorted(values, key=lambda name: name in RENAMED)
    return {current_name(name, stacklevel + 2): values[name] for name in names}


def without_renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same without warnings, for files that the package wrote."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def accepts_renamed(config: type[Config]) -> type[Config]:
    """Have a dataclass accept earlier names of its fields as arguments and attributes."""
    create = config.__init__

    @wraps(create)
    def __init__(self: Config, *args: Any, **values: Any) -> None:
        create(self, *args, **current_names(values))

    def __getattr__(self: Config, name: str) -> Any:
        if name not in RENAMED:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        return getattr(self, current_name(name))

    config.__init__ = __init__  # type: ignore[method-assign, assignment]
    config.__getattr__ = __getattr__  # type: ignore[attr-defined]
    return config
