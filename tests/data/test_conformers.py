import numpy as np
import pytest
from rdkit import Chem

from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.errors import ConfigError, ConformerError, InputError

SPELLINGS = [
    ("CCO", "OCC"),
    ("c1ccccc1O", "Oc1ccccc1"),
    ("C[C@H](N)C(=O)O", "OC(=O)[C@@H](N)C"),
    ("CC(=O)Nc1ccc(O)cc1", "Oc1ccc(NC(C)=O)cc1"),
]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_two_spellings_have_one_geometry(one, other):
    first, second = embed_smiles(one), embed_smiles(other)
    assert np.array_equal(first.numbers, second.numbers)
    assert np.array_equal(first.pos, second.pos)


def test_hydrogens_are_added_and_nothing_is_flat_or_zero():
    methane = embed_smiles("C")
    assert methane.formula == "CH4"
    assert np.linalg.matrix_rank(methane.pos - methane.pos.mean(0)) == 3
    lengths = np.linalg.norm(methane.pos[1:] - methane.pos[0], axis=1)
    assert np.allclose(lengths, 1.09, atol=0.02)


def test_enantiomers_are_mirror_images():
    left, right = (embed_smiles(smiles) for smiles in ("C[C@H](F)Cl", "C[C@@H](F)Cl"))

    def handedness(structure):
        around = {int(number): structure.pos[index] for index, number in enumerate(structure.numbers)}
        return np.sign(np.linalg.det(np.stack([around[9], around[17], structure.pos[0]]) - structure.pos[1]))

    assert handedness(left) == -handedness(right)


def test_charge_and_multiplicity_are_kept():
    assert embed_smiles("C[NH3+]").charge == 1
    assert embed_smiles("[CH3]").spin == 2


def test_the_force_field_that_was_used_is_named():
    assert embed_smiles("CCO").geometry == "etkdg+mmff"
    assert embed_smiles("CB(C)C").geometry == "etkdg+uff"
    assert embed_smiles("CCO", ConformerPolicy("etkdg")).geometry == "etkdg"


def test_a_seed_gives_another_geometry_and_again_the_same():
    first, same, other = (embed_smiles("CCCCO", ConformerPolicy(seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.pos, same.pos)
    assert not np.allclose(first.pos, other.pos)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("", "the SMILES is empty"),
        ("C1CC", "'C1CC' is not a SMILES"),
        ("C(C)(C)(C)(C)C", "is not a possible molecule: Explicit valence"),
        ("c1cccc1", "Can't kekulize"),
        ("[Qq]", "is not a SMILES"),
        ("*C", "dummy atom"),
    ],
)
def test_what_is_no_smiles_is_refused(smiles, message):
    with pytest.raises(InputError, match=message):
        embed_smiles(smiles)


def test_a_failure_has_a_reason():
    with pytest.raises(ConformerError, match=r"could not be embedded in 3-D \(most often: .*\): give its coordinates"):
        embed_smiles("C1#CC1")
    with pytest.raises(ConformerError, match="has 2 separate parts"):
        embed_smiles("CCO.Cl")


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="is not one of etkdg"):
        ConformerPolicy("magic")


def test_rdkit_says_nothing_on_its_own(capfd):
    with pytest.raises(InputError):
        embed_smiles("C(C)(C)(C)(C)C")
    assert capfd.readouterr().err == ""
    assert Chem.MolFromSmiles("C") is not None
