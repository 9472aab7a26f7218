"""Earlier names of config keys, which are accepted with a `DeprecationWarning` until the next release.

Files that the package itself wrote under these names, such as the `config.json` of a model folder, are read silently.
"""

import warnings
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "centre": "center",
    "divide": "channels_div",
    "input_edge_numbers": "input_edge_scalars",
    "input_numbers": "input_scalars",
    "neighbours": "max_neighbors",
    "up": "symmetry_axis",
}
"""Current names by the earlier ones."""


def current_name(name: str, stacklevel: int = 2) -> str:
    """The current name of a key, with a warning if it was renamed."""
    if name in RENAMED:
        message = f"the config key '{name}' is now '{RENAMED[name]}'; the next release will not accept the earlier name"
        warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
    return RENAMED.get(name, name)


def current_names(values: Mapping[str, Any], warn: bool = True) -> dict[str, Any]:
    """Values by the current names of their keys; a value under an earlier name takes precedence."""
    names = sorted(values, key=lambda name: name in RENAMED)
    return {current_name(name, 4) if warn else RENAMED.get(name, name): values[name] for name in names}
