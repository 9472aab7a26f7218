"""MolecularGraph: what a source knows of bonds and atoms beside elements and positions, as whole numbers.

Arrays alone, without RDKit: structures and stores keep it, `GraphBatch` has it as tensors; `data.bonds` makes it.
Letters: n atoms, b bonds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

ATOM_FEATURES = ("formal_charge", "hybridisation", "aromatic", "hydrogens", "ring_size", "chirality")
"""Columns of `MolecularGraph.atom_features`: formal charge, e; hybridisation as RDKit numbers it (S 1, SP 2, SP2 3, SP3
4, SP2D 5, SP3D 6, SP3D2 7, other 8); whether it is aromatic; attached hydrogens, be they atoms or not; size of its
smallest ring, 0 for none; chirality by the rules of Cahn, Ingold and Prelog, R 1, S 2, none 0."""

BOND_FEATURES = ("order", "conjugated", "in_ring")
"""Columns of `MolecularGraph.bond_features`: single 1, double 2, triple 3, aromatic 4, any other 0; and two flags."""

UNKNOWN = -128  #: in place of every feature of an atom whose structure has no molecular graph


@dataclass(frozen=True, eq=False)
class MolecularGraph:
    """Bonds, and what chemistry knows of the atoms.

    Args:
        atom_features: of each atom (n, 6), see `ATOM_FEATURES`.
        bonds: pairs of atoms (b, 2), each bond once.
        bond_features: of each bond (b, 3), see `BOND_FEATURES`.

    Example:
        >>> from molformer.data.conformers import embed_smiles
        >>> embed_smiles("C=O").molecular_graph.bond_features[:, 0].tolist()
        [2, 1, 1]
    """

    atom_features: np.ndarray
    bonds: np.ndarray
    bond_features: np.ndarray

    def __post_init__(self) -> None:
        widths = {"atom_features": len(ATOM_FEATURES), "bonds": 2, "bond_features": len(BOND_FEATURES)}
        for name, width in widths.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64).reshape(-1, width))
        assert len(self.bonds) == len(self.bond_features)

    def __len__(self) -> int:
        return len(self.atom_features)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} atoms, {len(self.bonds)} bonds)"

    @classmethod
    def unknown(cls, atoms: int) -> Self:
        """That of a structure of which nothing is known."""
        return cls(np.full((atoms, len(ATOM_FEATURES)), UNKNOWN), np.zeros(0), np.zeros(0))

    @classmethod
    def joined(cls, graphs: Sequence[Self]) -> Self:
        """One after another, as a batch has them."""
        starts = np.cumsum([0, *map(len, graphs)])
        return cls(
            np.concatenate([graph.atom_features for graph in graphs]),
            np.concatenate([graph.bonds + start for graph, start in zip(graphs, starts, strict=False)]),
            np.concatenate([graph.bond_features for graph in graphs]),
        )

    def select(self, atoms: np.ndarray) -> Self:
        """That of some atoms in the order of their indices (k,), with the bonds among them."""
        place = np.full(len(self), -1)
        place[atoms] = np.arange(len(atoms))
        bonds = place[self.bonds]
        kept = (bonds >= 0).all(axis=1)
        return type(self)(self.atom_features[atoms], bonds[kept], self.bond_features[kept])

    def implicit_hydrogens(self, numbers: np.ndarray) -> np.ndarray:
        """Which atoms (n,) are hydrogens with one bond, to a heavier atom, which counts them among its own."""
        ends = np.concatenate([self.bonds, self.bonds[:, ::-1]])
        degree = np.bincount(ends[:, 0], minlength=len(self))
        heavier = np.bincount(ends[:, 0], numbers[ends[:, 1]] > 1, minlength=len(self))
        return (numbers == 1) & (degree == 1) & (heavier == 1)

    def absent_hydrogens(self, numbers: np.ndarray) -> int:
        """How many of the hydrogens that the atoms count are no atoms themselves."""
        return max(0, int(self.atom_features[:, 3].sum() - (numbers[self.bonds] == 1).sum()))
