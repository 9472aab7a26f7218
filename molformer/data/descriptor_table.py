"""Descriptors that are inputs of a model: which a choice means, and those of a store; see `data.descriptors`."""

import contextlib
import hashlib
import os
from functools import partial

import numpy as np

from molformer.data.drafts import draft_folder, writing
from molformer.data.readers import Entry
from molformer.data.store import StructureStore
from molformer.errors import StoreError
from molformer.models.descriptors import DescriptorChoice, DescriptorReadoutName, DescriptorSet


def chosen(choice: DescriptorChoice, readout: DescriptorReadoutName = "mlp") -> DescriptorSet:
    """The descriptors of a choice; a Gaussian process has pairs of atoms and torsions beside circular substructures."""
    if choice == "none":
        return DescriptorSet()
    from molformer.data.descriptors import BITS, FINGERPRINTS, GRAPH

    names = () if choice == "ecfp" else tuple(GRAPH)
    fingerprints = () if choice == "rdkit" else tuple(FINGERPRINTS) if readout == "gaussian_process" else ("ecfp",)
    return DescriptorSet(names, BITS, fingerprints)


def descriptor_table(store: StructureStore, descriptors: DescriptorSet) -> np.ndarray | None:
    """Descriptors of all structures (n, D), memory-mapped; None if the set is empty.

    They are made once, in the cache, by as many worker processes as there are cores.

    Raises:
        StoreError: the cache cannot be written.
    """
    descriptors = descriptors.inputs
    if not descriptors:
        return None
    from rdkit import rdBase  # which training from a store otherwise does not need

    from molformer.data.conformer_generation import computed
    from molformer.data.descriptors import SECONDS, descriptors_of
    from molformer.data.importing import cache_folder

    facts = f"{store.manifest['sha256']} {descriptors} {rdBase.rdkitVersion}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    path = cache_folder() / "descriptors" / f"{store.path.stem}-{key}.npy"
    if not path.is_file():
        jobs, missing = ((Entry(each.smiles), each.smiles) for each in store), np.full(len(descriptors), np.nan)
        compute = partial(descriptors_of, descriptors)
        with contextlib.closing(computed(jobs, compute, os.cpu_count() or 1, SECONDS)) as results:
            rows = [values if isinstance(values, np.ndarray) else missing for _, values in results]
        with writing(path, StoreError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft_folder(path) as folder:
                np.save(folder / "table.npy", np.array(rows, dtype=np.float32))
                os.replace(folder / "table.npy", path)
    return np.load(path, mmap_mode="r")
