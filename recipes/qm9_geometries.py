"""Further geometries of molecules with a DFT geometry: the same conformer, relaxed by a force field or by GFN2-xTB.

A relaxed geometry lies on the DFT one with the least RMSD (Kabsch 1976, doi 10.1107/S0567739476001873), so that the
displacement that leads to the DFT geometry is a difference of positions. Letters: n atoms.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds, rdForceFieldHelpers

from molformer.data.conformer_generation import computed
from molformer.data.gfn2 import relax
from molformer.data.readers import Entry
from molformer.data.store import StoreWriter, StructureStore
from molformer.data.structure import Structure
from molformer.errors import ConformerError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

Method = Literal["mmff", "gfn2"]

DISPLACEMENT = "displacement"
"""Label: from the positions of a geometry to those of the DFT geometry of the same conformer (n, 3), Å."""

SAME_CONFORMER = 0.5
"""Largest RMSD of all atoms, Å, at which a relaxed geometry counts as the conformer that it began with."""

FACTORS = (1.2, 1.1, 1.3)
"""Ratios of distance and sum of the covalent radii up to which atoms count as bonded, in the order they are tried."""

PART = 500
"""Molecules that are kept in a file while a run is on its way."""

_BETWEEN = 30.0  # s between two lines of a log
_STEPS = 5000
_LIMIT = 300.0  # s for one molecule


def counted(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with a line of the log now and then that says how many there were."""
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - last > _BETWEEN or count == total:
            last = now
            logger.info("%s: %d of %d, %.1f a second", what, count, total, count / (now - start))


def aligned(pos: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Positions (n, 3), moved and rotated onto others with the least RMSD."""
    centre = onto.mean(0)
    pos = pos - pos.mean(0)
    left, _, right = np.linalg.svd(pos.T @ (onto - centre))
    left[:, -1] *= np.sign(np.linalg.det(left @ right))  # no reflection
    return pos @ left @ right + centre


def rmsd(pos: np.ndarray, onto: np.ndarray) -> float:
    """Root mean square distance of atoms, Å, of positions that are aligned."""
    return float(np.sqrt(np.square(pos - onto).sum(1).mean()))


def bonded(numbers: np.ndarray, pos: np.ndarray, factor: float) -> Chem.Mol:
    """A molecule with single bonds between all atoms that are close to each other."""
    mol = Chem.RWMol()
    for number in numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    mol.AddConformer(conformer_of(pos))
    rdDetermineBonds.DetermineConnectivity(mol, useVdw=True, covFactor=factor)
    return mol.GetMol()


def bonds_of(mol: Chem.Mol) -> set[tuple[int, int]]:
    """Pairs of atoms with a bond, in ascending order."""
    return {tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))) for bond in mol.GetBonds()}


def with_orders(molecule: Structure) -> tuple[Chem.Mol, float] | None:
    """The molecule of a SMILES with atoms and positions of a geometry, and the factor of `bonded` that explains it.

    None where the bonds of the SMILES are not those of the geometry.
    """
    mol = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
    single = Chem.RWMol(mol)
    for bond in single.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
        bond.SetIsAromatic(False)
    for atom in single.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetIsAromatic(False)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for factor in FACTORS:
        found = bonded(molecule.numbers, molecule.pos, factor)
        if (found.GetNumAtoms(), found.GetNumBonds()) != (mol.GetNumAtoms(), mol.GetNumBonds()):
            continue
        places = found.GetSubstructMatch(single)
        if places:
            mol = Chem.RenumberAtoms(mol, np.argsort(places).tolist())
            mol.AddConformer(conformer_of(molecule.pos))
            return mol, factor
    return None


def relaxed(method: Method, molecule: Structure) -> Structure | str:
    """The same conformer relaxed, aligned with the given geometry; or why there is none.

    Args:
        method: `mmff` for MMFF94, `gfn2` for GFN2-xTB, which needs tblite.
        molecule: with a SMILES and a geometry.
    """
    with rdBase.BlockLogs():
        found = with_orders(molecule)
        if found is None:
            return "the bonds of the SMILES are not those of the geometry"
        mol, factor = found
        if method == "mmff":
            parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
            field = parameters and rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters)
            if not field:
                return "MMFF94 has no parameters"
            field.Initialize()
            if field.Minimize(maxIts=_STEPS):
                return "the relaxation did not converge"
            pos = mol.GetConformer().GetPositions()
        else:
            try:
                end = relax(molecule)
            except ConformerError as error:
                return str(error)
            if "not converged" in end.geometry:
                return "the relaxation did not converge"
            pos = end.pos
        if bonds_of(bonded(molecule.numbers, pos, factor)) != bonds_of(mol):
            return "the relaxation changed bonds"
    pos = aligned(pos, molecule.pos)
    if rmsd(pos, molecule.pos) > SAME_CONFORMER:
        return "the relaxation led to another conformer"
    return replace(molecule, pos=pos, geometry=method, labels={})


def relaxed_geometries(
    store: StructureStore, rows: Sequence[int], method: Method, folder: Path, processes: int
) -> Iterator[Structure]:
    """Relaxed geometries of molecules of a store, with their labels and `DISPLACEMENT`.

    Args:
        store: of DFT geometries.
        rows: of the molecules.
        method: see `relaxed`.
        folder: of files with finished parts, which are not made again.
        processes: that relax; 0 for none beside this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out: Counter[str] = Counter()
    for start in counted(range(0, len(rows), PART), f"{method}, parts of {PART} molecules", -(-len(rows) // PART)):
        part = [store[row] for row in rows[start : start + PART]]
        path = folder / f"{start:06d}.safetensors"
        if not path.exists():
            jobs = ((Entry(""), replace(molecule, labels={})) for molecule in part)
            results = [outcome for _, outcome in computed(jobs, partial(relaxed, method), processes, _LIMIT)]
            reasons = Counter(str(result) for result in results if not isinstance(result, Structure))
            path.with_suffix(".json").write_text(json.dumps(reasons), encoding="utf-8")
            with StoreWriter(path, precision="float64") as writer:
                for result in results:
                    if isinstance(result, Structure):
                        writer.add(result)
        left_out.update(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        of_group = {molecule.group: molecule for molecule in part}
        for structure in StructureStore(path):
            given = of_group[structure.group]
            yield replace(structure, labels={**given.labels, DISPLACEMENT: given.pos - structure.pos})
    for reason, count in left_out.most_common():
        logger.info("%s: %d of %d molecules left out, as %s", method, count, len(rows), reason)


def conformer_of(pos: np.ndarray) -> Chem.Conformer:
    """Positions (n, 3) as RDKit has them."""
    conformer = Chem.Conformer(len(pos))
    conformer.SetPositions(np.ascontiguousarray(pos, dtype=np.float64))
    return conformer
