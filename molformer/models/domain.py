"""Domain: what a model was trained on, and so where its predictions can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Domain:
    """What a model was trained on.

    Args:
        elements: atomic numbers that occurred.
        max_atoms: size of the largest structure.
        geometries: where the geometries came from, by `Structure.geometry`.
    """

    elements: tuple[int, ...] = ()
    max_atoms: int = 0
    geometries: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON and checkpoints."""
        return {
            "elements": list(self.elements),
            "max_atoms": self.max_atoms,
            "geometries": list(self.geometries),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(tuple(values["elements"]), int(values["max_atoms"]), tuple(values["geometries"]))
