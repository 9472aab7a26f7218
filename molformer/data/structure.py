"""One molecule or point cloud, and the description of a label.

Positions are in Å, labels in the units that their `Label` names. Arrays are numpy: a structure is what a reader
makes and a store keeps; tensors begin with `GraphBatch`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np

from molformer import units
from molformer.elements import MAX_NUMBER, formula
from molformer.errors import InputError

LabelKind = Literal[
    "intensive",
    "extensive",
    "vector",
    "tensor",
    "charges",
    "atom",
    "atom_vector",
    "forces",
    "stress",
    "binary",
    "category",
    "atom_category",
]
"""What a label is, and so how a model forms it.

- intensive: one number that does not grow with the molecule, such as an orbital energy.
- extensive: one number that is a sum over atoms, such as a total energy.
- vector: three numbers that turn with the molecule and do not move with it, such as a dipole.
- tensor: a symmetric 3×3 matrix that turns with the molecule, such as a polarizability.
- charges: one number an atom, their sum is the total charge.
- atom: one number an atom without such a sum, such as a chemical shift.
- atom_vector: three numbers an atom that turn with the molecule and do not move with it, such as a velocity, a
  displacement or a magnetic moment.
- forces: three numbers an atom, minus the gradient of an energy; a model may also predict them as such.
- stress: a symmetric 3×3 matrix of a structure that is periodic in three directions, the derivative of an energy with
  respect to strain over the volume; positive where the structure pulls, as in ASE.
- binary: 0 or 1.
- category: the index of one of several classes.
- atom_category: the same for each atom or point, such as the part of an object that it belongs to.
"""

FAR = 100.0
"""Distance from the origin, Å, from which single precision would lose more of a position than 4e-6 Å."""

WIDEST = 1e4
"""Extent of a molecule, and length of a lattice vector, beyond which they are refused, Å."""

THINNEST = 0.5
"""Height of a cell along a periodic direction below which it is refused, Å: no atom is so near its own image."""

_SHAPES: dict[str, tuple[int, ...]] = {
    "vector": (3,),
    "atom_vector": (3,),
    "forces": (3,),
    "tensor": (3, 3),
    "stress": (3, 3),
}


@dataclass(frozen=True)
class Label:
    """Name, unit and kind of one labelled property.

    Args:
        name: as in the data set, for instance `gap`.
        unit: a unit that `molformer.units` knows; empty for a pure number.
        kind: see `LabelKind`.
        classes: names of the classes of a `category` or `atom_category`, in the order of their indices.

    Raises:
        InputError: the kind is not known, or a category has no classes.
        UnitError: the unit is not known.

    Example:
        >>> Label("gap", "eV", "intensive").per_node
        False
    """

    name: str
    unit: str
    kind: LabelKind
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(LabelKind):
            raise InputError(f"label '{self.name}': kind '{self.kind}' is not one of {', '.join(get_args(LabelKind))}")
        object.__setattr__(self, "unit", units.canonical(self.unit))
        object.__setattr__(self, "classes", tuple(self.classes))
        if (self.kind in ("category", "atom_category")) != bool(self.classes):
            raise InputError(
                f"label '{self.name}': a label has classes if, and only if, its kind is 'category' or 'atom_category'"
            )

    @property
    def per_node(self) -> bool:
        """Whether there is one value an atom (True) or one a structure (False)."""
        return self.kind in ("charges", "atom", "atom_vector", "forces", "atom_category")

    @property
    def is_class(self) -> bool:
        """Whether it names a class rather than measuring something."""
        return self.kind in ("binary", "category", "atom_category")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: () for a number, (3,) for a vector, (3, 3) for a tensor or stress."""
        return _SHAPES.get(self.kind, ())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "classes": list(self.classes)}


@dataclass(frozen=True, eq=False)
class Structure:
    """A molecule: atoms, their positions and what is known about it.

    Args:
        numbers: atomic numbers (n,); any sequence of integers.
        pos: positions (n, 3), Å; anything that numpy takes as an array.
        charge: total charge, e.
        spin: multiplicity 2S+1.
        cell: lattice vectors as rows (3, 3), Å, or None where nothing is periodic.
        pbc: which of them are periodic.
        features: further numbers of each atom or point (n, F), such as normals or colours; F may be 0.
        smiles: the molecule as written by the user or the data set.
        name: title or row of the source, used in messages.
        geometry: where the positions come from: `given`, or the policy that made them.
        group: structures of one group (geometries of one molecule) stay on one side of a split.
        labels: values by label name; numbers (), vectors (3,), per atom (n,) or (n, 3); NaN where missing.

    Raises:
        InputError: shapes do not fit, a position is not finite, a number is not an element, or molecule or cell have
            sizes that none has: see `WIDEST` and `THINNEST`.

    Example:
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> water.formula, len(water)
        ('H2O', 3)
    """

    numbers: np.ndarray
    pos: np.ndarray
    charge: int = 0
    spin: int = 1
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (True, True, True)
    features: np.ndarray | None = None
    smiles: str = ""
    name: str = ""
    geometry: str = "given"
    group: int = -1
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", np.asarray(self.numbers, dtype=np.int64))
        object.__setattr__(self, "pos", np.asarray(self.pos, dtype=np.float64))
        if self.cell is not None:
            object.__setattr__(self, "cell", np.asarray(self.cell, dtype=np.float64))
        if self.features is not None:
            object.__setattr__(self, "features", np.asarray(self.features, dtype=np.float64))
        object.__setattr__(self, "labels", _as_arrays(self.labels))
        self._check()

    def annotated(
        self,
        smiles: str | None = None,
        name: str | None = None,
        group: int | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> Self:
        """The same geometry with other annotations, None to leave one; quickly made, since nothing is checked again."""
        given = {
            "smiles": smiles,
            "name": name,
            "group": group,
            "labels": None if labels is None else _as_arrays(labels),
        }
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **{key: value for key, value in given.items() if value is not None})
        return other

    def _check(self) -> None:
        where = f"{self.where}: " if self.where else ""
        if self.numbers.ndim != 1 or self.pos.shape != (len(self.numbers), 3):
            raise InputError(
                f"{where}atomic numbers of shape {self.numbers.shape} and positions of shape {self.pos.shape} "
                "do not describe one molecule; expected (n,) and (n, 3)"
            )
        if len(self.numbers) == 0:
            raise InputError(f"{where}the molecule has no atoms")
        if self.numbers.min() < 0 or self.numbers.max() > MAX_NUMBER:
            raise InputError(f"{where}atomic numbers must lie between 0 and {MAX_NUMBER}")
        if not np.isfinite(self.pos).all():
            atom = int(np.argwhere(~np.isfinite(self.pos))[0, 0])
            raise InputError(f"{where}the position of atom {atom + 1} is not a finite number")
        with np.errstate(over="ignore"):
            extent = float(np.ptp(self.pos, axis=0).max())
        if not extent <= (WIDEST if self.numbers.any() else 1e30):
            raise InputError(f"{where}its positions extend over {extent:.3g} Å, which no molecule does: check the unit")
        if self.cell is not None:
            self._check_cell(where)
        if self.features is not None and self.features.shape[:-1] != (len(self),):
            raise InputError(f"{where}features of shape {self.features.shape} do not fit {len(self)} atoms; use (n, F)")

    def _check_cell(self, where: str) -> None:
        cell = self.cell
        assert cell is not None
        finite = cell.shape == (3, 3) and bool((np.abs(cell) < 1e100).all())
        if not finite or not abs(np.linalg.det(cell)) > 1e-6:
            raise InputError(f"{where}the cell must be three independent lattice vectors (3, 3)")
        longest = float(np.linalg.norm(cell, axis=1).max())
        lowest = float((1 / np.linalg.norm(np.linalg.inv(cell), axis=0))[np.array(self.pbc)].min(initial=np.inf))
        if longest > WIDEST or lowest < THINNEST:
            raise InputError(
                f"{where}a cell with a lattice vector of {longest:.3g} Å and a least height of {lowest:.3g} Å is not "
                f"plausible: use at most {WIDEST:g} Å and at least {THINNEST} Å"
            )

    def near_origin(self) -> np.ndarray:
        """Positions (n, 3) that single precision can hold: as they are, or moved as a whole, and into the cell.

        Example:
            >>> Structure([1, 1], [[1e8, 0, 0], [1e8 + 0.75, 0, 0]]).near_origin()[:, 0].tolist()
            [-0.375, 0.375]
        """
        pos = self.pos
        if np.abs(pos).max() <= FAR:
            return pos
        pos = pos - (pos.min(axis=0) / 2 + pos.max(axis=0) / 2)
        if self.cell is not None and np.abs(pos).max() > FAR:
            pos = pos - np.where(self.pbc, np.floor(pos @ np.linalg.inv(self.cell)), 0.0) @ self.cell
        return pos

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def where(self) -> str:
        """The source of the structure, for messages."""
        return self.name or self.smiles

    @property
    def periodic(self) -> bool:
        """Whether it repeats in all three directions, so that its cell has a volume that means something."""
        return self.cell is not None and all(self.pbc)

    @property
    def formula(self) -> str:
        """Sum formula in Hill order."""
        return formula(self.numbers.tolist())


def _as_arrays(labels: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in labels.items()}
