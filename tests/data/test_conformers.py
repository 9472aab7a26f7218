import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molformer.data import conformers
from molformer.data.conformers import ConformerPolicy, canonical_smiles, embed_smiles, embed_smiles_all, group_of
from molformer.errors import ConfigError, ConformerError, InputError, MolformerError

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
        ("CC(=O) Oc1ccccc1", "text follows a blank"),
        ("CCO ethanol", "text follows a blank"),
        ("CCO |no extension|", "is not a SMILES"),
        ("CCO₂", "none has the character '₂'"),
        ("OC…", "none has the character '…'"),
        ("CC\x00O", "none has the character"),
        ("CCO\u00a0x", "none has the character"),
        ("CC\udcfc", "none has the character"),
        ("CCO.Cl", "has 2 separate parts"),
        ("*C", "dummy atom"),
    ],
)
def test_what_is_no_smiles_is_refused(smiles, message):
    with pytest.raises(MolformerError, match=message):
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


@pytest.mark.parametrize("smiles", ["[He]", "[Na+]", "[U]"])
def test_one_atom_needs_no_force_field(smiles):
    atom = embed_smiles(smiles)
    assert atom.pos.tolist() == [[0, 0, 0]]
    assert atom.geometry == "etkdg"


def test_given_coordinates_only():
    with pytest.raises(ConformerError, match=r"row 3: 'CCO' has no coordinates .* file with coordinates"):
        embed_smiles("CCO", ConformerPolicy("given"), "row 3")


@pytest.mark.parametrize(("method", "smiles"), [("etkdg+mmff", "OCCO"), ("etkdg", "OCCO"), ("etkdg+mmff", "CB(C)CCC")])
def test_several_conformers_are_sorted_by_energy_and_the_lowest_is_the_geometry(method, smiles):
    policy = ConformerPolicy(method, num_conformers=6)
    made = embed_smiles_all(smiles, policy)
    energies = [energy(structure) for structure in made]
    assert len(made) == 6
    assert energies == sorted(energies)
    assert energies[-1] - energies[0] > 0.1
    assert np.array_equal(embed_smiles(smiles, policy).pos, made[0].pos)
    first = embed_smiles(smiles, ConformerPolicy(method))
    assert any(np.array_equal(first.pos, structure.pos) for structure in made)
    again = embed_smiles_all(Chem.MolToSmiles(Chem.MolFromSmiles(smiles), doRandom=True), policy)
    assert all(np.array_equal(one.pos, other.pos) for one, other in zip(made, again, strict=True))


def energy(structure):
    """Energy by the force field that knows the molecule, from the positions alone."""
    mol = Chem.AddHs(Chem.MolFromSmiles(canonical_smiles(structure.smiles)))
    conformer = Chem.Conformer(len(structure))
    conformer.SetPositions(structure.pos)
    mol.AddConformer(conformer)
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters).CalcEnergy()
    return rdForceFieldHelpers.UFFGetMoleculeForceField(mol).CalcEnergy()


def test_several_conformers_of_what_no_force_field_knows():
    assert len(embed_smiles_all("[He]", ConformerPolicy(num_conformers=2))) == 2
    assert len(embed_smiles_all("C[U]", ConformerPolicy("etkdg", num_conformers=2))) == 2


def test_relaxation_that_does_not_converge_is_retried_and_then_reported(monkeypatch):
    short = ConformerPolicy(max_iterations=1)
    assert embed_smiles("CC(=O)Nc1ccc(O)cc1", short).geometry == "etkdg+mmff, not converged"
    monkeypatch.setattr(conformers, "MORE_STEPS", 1000)
    retried = embed_smiles("CC(=O)Nc1ccc(O)cc1", short)
    assert retried.geometry == "etkdg+mmff"
    assert np.isclose(energy(retried), energy(embed_smiles("CC(=O)Nc1ccc(O)cc1")), atol=0.05)


def test_hydrogens_are_those_that_were_written_if_none_are_to_be_added():
    policy = ConformerPolicy("etkdg", add_hydrogens=False)
    assert embed_smiles("[H]OC", policy).formula == "CHO"
    assert embed_smiles("OC", policy).formula == "CO"
    assert embed_smiles("[H]C([H])([H])[H]", policy).formula == "CH4"


@pytest.mark.parametrize("name", ["num_conformers", "timeout", "max_iterations"])
def test_a_policy_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} of the conformers is 0"):
        ConformerPolicy(**{name: 0})


def test_what_rdkit_raises_is_a_reason(monkeypatch):
    def broken(*_):
        raise RuntimeError("Pre-condition Violation\n\tbad thing\nViolation occurred\n----\nStack")

    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", broken)
    with pytest.raises(
        ConformerError, match=r"'CCO' could not be embedded in 3-D \(Pre-condition Violation.*bad thing"
    ):
        embed_smiles("CCO")


def respelled(smiles, seed):
    """Other spellings of a molecule: atom maps, isotopes, hydrogens as atoms, another order, bonds of Kekulé."""
    random = np.random.default_rng(seed)
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    maps, isotopes, kekule = Chem.Mol(mol), Chem.Mol(mol), Chem.RemoveHs(mol)
    for atom in maps.GetAtoms():
        atom.SetAtomMapNum(int(random.integers(1, 200)))
    for atom in isotopes.GetAtoms():
        atom.SetIsotope({1: 2, 6: 13}.get(atom.GetAtomicNum(), 0) * int(random.integers(2)))
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    yield from (Chem.MolToSmiles(other, canonical=False, doRandom=True) for other in (mol, maps, isotopes))
    yield Chem.MolToSmiles(kekule, kekuleSmiles=True, allHsExplicit=True)
    yield f"{smiles} |$_AV:1$|"


@pytest.mark.parametrize(
    "smiles", ["CCCO", "C[C@H](O)c1ccccc1", "C/C=C\\F", "O=C(O)c1ccncc1", "CC(C)O", "[NH3+]CC(=O)[O-]", "[H][H]"]
)
def test_maps_isotopes_and_hydrogens_that_are_written_do_not_matter(smiles):
    others = [other for seed in range(5) for other in respelled(smiles, seed)]
    assert {canonical_smiles(other) for other in others} == {canonical_smiles(smiles)}


def test_a_centre_that_only_isotopes_make_is_none():
    assert canonical_smiles("C[C@H](O)[13CH3]") == canonical_smiles("C[C@@H](O)[13CH3]") == "CC(C)O"
    assert canonical_smiles("[CH3:1][C@H](O)[CH3:2]", add_hydrogens=False) == "CC(C)O"
    assert canonical_smiles("[13CH3]/C(C)=C/F") == canonical_smiles("CC(C)=CF")


@pytest.mark.parametrize(
    ("smiles", "part"),
    [("CCO.Cl", "CCO"), ("[Na+].CC(=O)[O-]", "CC(=O)[O-]"), ("CCO.CCBr", "CCBr"), ("C1.C1", "CC"), ("OCC", "OCC")],
)
def test_the_largest_part_of_a_salt(smiles, part):
    structure = embed_smiles(smiles, ConformerPolicy(salts="largest"))
    assert canonical_smiles(structure.smiles) == canonical_smiles(part)
    assert structure.formula == embed_smiles(part).formula


def test_parts_that_are_kept_do_not_lie_in_each_other():
    for method, shortest in (("etkdg", 2.9), ("etkdg+mmff", 1.5)):
        structure = embed_smiles("[Na+].CC(=O)[O-].O", ConformerPolicy(method, salts="keep"))
        assert (structure.formula, structure.charge) == ("C2H5NaO3", 0)
        distances = np.linalg.norm(structure.pos[:, None] - structure.pos[None], axis=-1)
        sodium = structure.numbers.tolist().index(11)
        assert np.delete(distances[sodium], sodium).min() > shortest
        assert distances[np.triu_indices(len(structure), 1)].min() > 0.9


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", True),
        ("F/C=C/F", "F/C=C\\F", True),
        ("Oc1ccccn1", "O=c1cccc[nH]1", True),
        ("CC(=O)[O-].[Na+]", "CC(=O)O", True),
        ("C[NH3+].[Cl-]", "CN", True),
        ("CCCC", "CC(C)C", False),
        ("c1ccccc1", "C1CCCCC1", False),
    ],
)
def test_alike_molecules_are_one_group(one, other, same):
    assert (group_of(one) == group_of(other)) == same
