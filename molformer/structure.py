"""Structure: one molecule or point cloud.

Positions are in Å, labels in the units that their `Label` names. Arrays are numpy; `GraphBatch` converts
structures to tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np

from molformer.elements import MAX_NUMBER, formula
from molformer.errors import InputError
from molformer.molecular_graph import MolecularGraph

Salts = Literal["refuse", "largest", "keep"]  #: what becomes of a SMILES of several parts, see `ConformerPolicy`

FAR = 100.0
"""Distance from the origin, Å, beyond which the rounding error of a position in single precision exceeds 4e-6 Å."""

WIDEST = 1e4  #: largest extent of a molecule, and largest length of a lattice vector, Å

THINNEST = 0.5
"""Smallest height of a cell along a periodic direction, Å, which is the distance between periodic images."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A molecule or point cloud: atoms, positions, labels and metadata.

    Args:
        numbers: atomic numbers (n,); any sequence of integers.
        pos: positions (n, 3), Å; anything that numpy takes as an array.
        charge: total charge, e.
        spin: multiplicity 2S+1; where it is 1 and the number of electrons is odd, it becomes 2.
        cell: lattice vectors as rows (3, 3), Å, or None where nothing is periodic.
        pbc: which of them are periodic.
        features: input features of each atom or point (n, F), such as normals or colours; F may be 0.
        smiles: as given by the user or the data set.
        name: title or row of the source, used in messages.
        geometry: origin of the positions: `given`, or the conformer policy.
        group: structures of one group (geometries of one molecule) are in the same part of a split.
        labels: values by label name; scalars (), vectors (3,), per atom (n,) or (n, 3); NaN where missing.
        molecular_graph: bonds and chemistry of the atoms, where the source has them.
        descriptors: of the whole molecule (D,), for a model that takes some, see `data.descriptors`.

    Raises:
        InputError: shapes do not fit, a position is not finite, an atomic number is out of range, or the size
            of molecule or cell is implausible, see `WIDEST` and `THINNEST`.

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
    molecular_graph: MolecularGraph | None = None
    descriptors: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", np.asarray(self.numbers, dtype=np.int64))
        object.__setattr__(self, "pos", np.asarray(self.pos, dtype=np.float64))
        if self.cell is not None:
            object.__setattr__(self, "cell", np.asarray(self.cell, dtype=np.float64))
        if self.features is not None:
            object.__setattr__(self, "features", np.asarray(self.features, dtype=np.float64))
        object.__setattr__(self, "labels", _as_arrays(self.labels))
        self._check()
        absent = self.molecular_graph.absent_hydrogens(self.numbers) if self.molecular_graph is not None else 0
        electrons = int(self.numbers.sum()) + absent - self.charge
        object.__setattr__(self, "spin", max(self.spin, 1 + electrons % 2))

    def annotated(
        self,
        smiles: str | None = None,
        name: str | None = None,
        group: int | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> Self:
        """Copy with other annotations, without validation; None keeps an annotation."""
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
        graph = self.molecular_graph
        if graph is not None and (len(graph) != len(self) or not graph.bonds.max(initial=-1) < len(self)):
            raise InputError(f"{where}a molecular graph of {len(graph)} atoms does not fit {len(self)} atoms")

    def select(self, atoms: np.ndarray) -> Self:
        """Some of its atoms, in the order of their indices (k,), without labels: only their kinds say which fit."""
        return replace(
            self,
            numbers=self.numbers[atoms],
            pos=self.pos[atoms],
            features=None if self.features is None else self.features[atoms],
            molecular_graph=None if self.molecular_graph is None else self.molecular_graph.select(atoms),
            labels={},
        )

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
        """Positions (n, 3) near the origin, translated if single precision requires it, and wrapped into the cell.

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

    def __repr__(self) -> str:
        charge = f"charge {self.charge:+d}" if self.charge else ""
        facts = (self.formula, self.where, charge, self.geometry, "periodic" if self.periodic else "")
        return f"{type(self).__name__}({', '.join(filter(None, facts))})"

    @property
    def where(self) -> str:
        """The source of the structure, for messages."""
        return self.name or self.smiles

    @property
    def periodic(self) -> bool:
        """Whether it is periodic in all three directions, so that its cell has a volume."""
        return self.cell is not None and all(self.pbc)

    @property
    def formula(self) -> str:
        """Sum formula in Hill order."""
        return formula(self.numbers.tolist())


def _as_arrays(labels: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in labels.items()}
