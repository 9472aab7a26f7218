"""Heavy atoms alone: structures and stores whose hydrogens are counts of the atoms that they are attached to.

The charge of a heavy atom is then that of it and its hydrogens together.
"""

from dataclasses import replace

import numpy as np

from molformer.data.several_conformers import CONFORMER
from molformer.data.store import StructureStore, write_store
from molformer.errors import InputError
from molformer.structure import Structure


def heavy_atoms(structure: Structure) -> Structure:
    """The structure without its hydrogens but those without a heavy neighbour, and without labels but conformers.

    Raises:
        InputError: it has no molecular graph, which counts them.

    Example:
        >>> from molformer.data.conformers import embed_smiles
        >>> heavy = heavy_atoms(embed_smiles("CO"))
        >>> heavy.formula, heavy.molecular_graph.atom_features[:, 3].tolist()
        ('CO', [3, 1])
    """
    graph = structure.molecular_graph
    if graph is None:
        where = structure.where or structure.formula
        reason = "the model takes heavy atoms alone (hydrogens: implicit), and it has no bonds: give a SMILES or a file"
        raise InputError(f"{where}: {reason} with bonds, or have them perceived (--bonds perceive)")
    heavy = np.flatnonzero(~graph.implicit_hydrogens(structure.numbers))
    conformers = {name: value[heavy] for name, value in structure.labels.items() if name.startswith(CONFORMER)}
    return replace(structure.select(heavy), labels=conformers)


def heavy_atom_store(store: StructureStore) -> StructureStore:
    """A store of the same structures without hydrogens, in the same order; made once, in the cache.

    Raises:
        InputError: a structure has no molecular graph.
        StoreError: it cannot be written.
    """
    from molformer.data.importing import cache_folder  # needs RDKit, which training from a store does not

    path = cache_folder() / "stores" / f"{store.path.stem}-heavy-2-{store.manifest['sha256'][:16]}.safetensors"
    if not path.is_file():
        charges = [label.name for label in store.labels.values() if label.kind == "charges"]
        labels = [
            label
            for label in store.labels.values()
            if not label.per_node or label.name in charges or label.name.startswith(CONFORMER)
        ]

        def heavy(each: Structure) -> Structure:
            kept = heavy_atoms(each)
            summed = {name: with_hydrogens(each, each.labels[name]) for name in charges if name in each.labels}
            return replace(kept, labels={**each.labels, **summed, **kept.labels}, name=each.where)

        write_store(path, map(heavy, store), labels, store.manifest["source"])
    return StructureStore(path)


def with_hydrogens(structure: Structure, charges: np.ndarray) -> np.ndarray:
    """Charges of the atoms of `heavy_atoms`, each with those of its hydrogens, from charges (n,) of all atoms."""
    graph = structure.molecular_graph
    assert graph is not None
    hydrogen = graph.implicit_hydrogens(structure.numbers)
    ends = np.concatenate([graph.bonds, graph.bonds[:, ::-1]])
    ends = ends[hydrogen[ends[:, 1]]]
    return np.asarray(charges + np.bincount(ends[:, 0], charges[ends[:, 1]], len(structure)))[~hydrogen]


def on_all_atoms(structure: Structure, charges: np.ndarray) -> np.ndarray:
    """Charges (…, n) of all atoms from those of `heavy_atoms`; of their hydrogens zero."""
    graph = structure.molecular_graph
    assert graph is not None
    found = np.zeros((*charges.shape[:-1], len(structure)))
    found[..., ~graph.implicit_hydrogens(structure.numbers)] = charges
    return found
