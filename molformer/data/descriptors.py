"""Descriptors of RDKit as labels of a structure: of its molecular graph (2-D) and of its geometry (3-D).

They cost milliseconds and no reference calculation, so an encoder can be pretrained on them with any list of molecules
(Burns et al. 2025, arXiv 2506.15792). The 2-D ones need a SMILES; the 3-D ones (moments of inertia, radius of gyration,
shape) need masses and positions alone. What cannot be computed is missing (NaN).

The 2-D ones, and counts of circular substructures, can also be inputs of a model, see `models.descriptors`. Letters: n
structures, D descriptors.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors, Descriptors3D, rdFingerprintGenerator

from molformer.data.conformer_generation import computed
from molformer.data.known_labels import DESCRIPTOR
from molformer.data.readers.entry import Entry
from molformer.data.structure import Label, Structure
from molformer.models.descriptors import DescriptorSet

SECONDS = 60.0  # after which a molecule is left without descriptors, if worker processes compute them

GRAPH = {DESCRIPTOR + name: function for name, function in Descriptors.descList if name != "Ipc"}  # grows exponentially
"""Functions of the 2-D descriptors by the names of their labels."""

_SHAPE = {DESCRIPTOR + name: function for name, function in Descriptors3D.descList}

LABELS = tuple(Label(name, "", "intensive") for name in (*GRAPH, *_SHAPE))  # all descriptors, as labels without a unit
BITS = 2048  # width of a fingerprint

FINGERPRINTS = {
    "ecfp": partial(rdFingerprintGenerator.GetMorganGenerator, radius=2),
    "atom_pairs": rdFingerprintGenerator.GetAtomPairGenerator,
    "torsions": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
}
"""Circular substructures of radius 2, pairs of atoms with their distance, and chains of four atoms."""

_LARGEST = 1e30  # of a number of single precision


@lru_cache(1024)  # geometries of one molecule follow one another
def descriptors_of(wanted: DescriptorSet, smiles: str) -> np.ndarray:
    """RDKit's descriptors, then counts of each fingerprint: (D,), all NaN where the SMILES is none.

    Example:
        >>> descriptors_of(DescriptorSet(("rdkit.NumHDonors",), 8, ("ecfp",)), "CCO").tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 2.0, 1.0]
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles else None
        if mol is None:
            return np.full(len(wanted), np.nan, np.float32)
        values = [_value(GRAPH[name], mol) if name in GRAPH else np.nan for name in wanted.names]
        for name in wanted.fingerprints:
            values += FINGERPRINTS[name](fpSize=wanted.bits).GetCountFingerprintAsNumPy(mol).tolist()
    found = np.array(values).clip(-_LARGEST, _LARGEST)
    return found.astype(np.float32)


def with_inputs(wanted: DescriptorSet, structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """Structures with their descriptors, as a model takes them."""
    return tuple(replace(each, descriptors=descriptors_of(wanted.inputs, each.smiles)) for each in structures)


def described(structure: Structure) -> Structure:
    """The structure with all descriptors among its labels.

    Example:
        >>> ethanol = Structure([6, 6, 8], [[0, 0, 0], [1.5, 0, 0], [2, 1.3, 0]], smiles="CCO")
        >>> round(float(described(ethanol).labels["rdkit.MolWt"]), 1)
        46.1
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(structure.smiles) if structure.smiles else None
        values = {name: _value(function, mol) for name, function in GRAPH.items()}
        values |= {name: _value(function, _atoms(structure)) for name, function in _SHAPE.items()}
    return structure.annotated(labels={**structure.labels, **values})


def with_descriptors(entries: Iterable[Entry], processes: int = 0) -> Generator[Entry, None, None]:
    """The same entries; structures with their descriptors, and those with an error as they are."""
    jobs = ((entry, entry.structure) for entry in entries)
    with contextlib.closing(computed(jobs, described, processes, SECONDS)) as results:
        for (entry, _), found in results:
            yield replace(entry, structure=found) if isinstance(found, Structure) else entry


def _value(function: Callable[[Chem.Mol], float], mol: Chem.Mol | None) -> float:
    try:
        value = np.nan if mol is None else float(function(mol))
    except (ValueError, RuntimeError, ZeroDivisionError, OverflowError):  # RDKit's, of a molecule it is not made for
        return np.nan
    return value if np.isfinite(value) else np.nan


def _atoms(structure: Structure) -> Chem.Mol:
    """Atoms without bonds at the positions of the structure."""
    mol = Chem.RWMol()
    for number in structure.numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    conformer = Chem.Conformer(len(structure))
    conformer.SetPositions(np.ascontiguousarray(structure.pos))
    mol.AddConformer(conformer)
    return mol.GetMol()
