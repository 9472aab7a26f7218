"""Domain: elements, size and geometries of the training set, stored with the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from molformer.elements import MAX_NUMBER


@dataclass(frozen=True)
class Domain:
    """Range of the training set of a model.

    Args:
        elements: atomic numbers in the training set.
        max_atoms: number of atoms of the largest structure.
        geometries: origins of the geometries, see `Structure.geometry`.
        conformers: number of conformers of a molecule without coordinates, over which predictions are averaged.
        geometry: how these are made by default, see `inference.sources.GeometryChoice`.
    """

    elements: tuple[int, ...] = ()
    max_atoms: int = 0
    geometries: tuple[str, ...] = ()
    conformers: int = 1
    geometry: str = "etkdg"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON and checkpoints."""
        return {
            "elements": list(self.elements),
            "max_atoms": self.max_atoms,
            "geometries": list(self.geometries),
            "conformers": self.conformers,
            "geometry": self.geometry,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            ValueError: an atomic number is out of range.
        """
        elements = tuple(int(number) for number in values["elements"])
        if elements and not 0 <= min(elements) <= max(elements) <= MAX_NUMBER:
            raise ValueError(f"an atomic number of its domain does not lie between 0 and {MAX_NUMBER}")
        geometries = tuple(str(each) for each in values["geometries"])
        defaults = int(values.get("conformers", 1)), str(values.get("geometry", "etkdg"))
        return cls(elements, int(values["max_atoms"]), geometries, *defaults)
