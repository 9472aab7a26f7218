import numpy as np
import pytest

from molformer.data.store import write_store
from molformer.data.structure import Label
from tests.helpers import random_structure

LABELS = [
    Label("energy", "eV", "extensive"),
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
    Label("forces", "eV/Å", "forces"),
]


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """60 random molecules whose labels are simple functions of their geometry, some of them missing."""
    members = []
    for seed in range(60):
        bare = random_structure(4 + seed % 3, seed=seed)
        distances = np.linalg.norm(bare.pos[:, None] - bare.pos, axis=-1)
        labels = {
            "energy": -10.0 * len(bare) + np.exp(-distances).sum(),
            "gap": np.nan if seed % 7 == 0 else np.exp(-distances).mean(),
            "dipole": bare.pos[bare.numbers == 8].sum(0) if (bare.numbers == 8).any() else np.zeros(3),
            "charges": bare.numbers - bare.numbers.mean(),
            "forces": bare.pos - bare.pos.mean(0),
        }
        members.append(random_structure(4 + seed % 3, seed=seed, labels=labels, name=f"row {seed}"))
    return str(write_store(tmp_path_factory.mktemp("data") / "random", members, LABELS, source="random").path)


@pytest.fixture(scope="session")
def ions(tmp_path_factory):
    """200 molecules and ions of which some have an odd number of electrons."""
    members = [
        random_structure(4, seed=seed, charge=seed % 2 if seed % 5 == 0 else 0, labels={"size": np.float64(seed % 7)})
        for seed in range(200)
    ]
    labels = [Label("size", "eV", "intensive")]
    return str(write_store(tmp_path_factory.mktemp("ions") / "ions", members, labels, source="random").path)
