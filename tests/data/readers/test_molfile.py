import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from molformer.data.conformer_generation import with_geometry
from molformer.data.conformers import embed_smiles
from molformer.data.readers import ReadOptions, molfile, read_file
from molformer.data.structure import Label
from molformer.errors import MolformerError

GAP = Label("gap", "eV", "intensive")


def solid(smiles, hydrogens=True):
    """An RDKit molecule with the geometry that the package makes of it."""
    structure = embed_smiles(smiles)
    mol = Chem.AddHs(Chem.MolFromSmiles(Chem.MolToSmiles(Chem.MolFromSmiles(smiles))))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(structure.pos)
    conformer.Set3D(True)
    mol.AddConformer(conformer)
    return mol if hydrogens else Chem.RemoveHs(mol)


def drawn(smiles):
    from rdkit.Chem import rdDepictor

    mol = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    return mol


def record(mol, title="", **properties):
    mol.SetProp("_Name", title)
    data = "".join(f">  <{name}>\n{value}\n\n" for name, value in properties.items())
    return f"{Chem.MolToMolBlock(mol)}{data}$$$$\n"


def mol2(smiles, charges="NO_CHARGES", total=0.0):
    mol = solid(smiles)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    kinds = {"SP": "1", "SP2": "2", "SP3": "3"}
    atoms, bonds = [], []
    for atom, (x, y, z) in zip(mol.GetAtoms(), mol.GetConformer().GetPositions(), strict=True):
        symbol, degree = atom.GetSymbol(), kinds.get(str(atom.GetHybridization()), "")
        kind = symbol if symbol in "HFCl" and symbol != "C" else f"{symbol}.{degree}"
        if symbol == "N" and atom.GetFormalCharge() == 1:
            kind = "N.4"
        charge = total if atom.GetIdx() == 0 else 0.0
        number = atom.GetIdx() + 1
        atoms.append(f"{number} {symbol}{number} {x:.4f} {y:.4f} {z:.4f} {kind} 1 MOL {charge:.4f}")
    for bond in mol.GetBonds():
        order = int(bond.GetBondTypeAsDouble())
        bonds.append(f"{bond.GetIdx() + 1} {bond.GetBeginAtomIdx() + 1} {bond.GetEndAtomIdx() + 1} {order}")
    head = ["@<TRIPOS>MOLECULE", smiles, f"{len(atoms)} {len(bonds)} 0 0 0", "SMALL", charges, ""]
    return "\n".join([*head, "@<TRIPOS>ATOM", *atoms, "@<TRIPOS>BOND", *bonds, ""])


def read(folder, text, name="set.sdf", *targets, **options):
    content = text if isinstance(text, bytes) else text.encode()
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return list(read_file(path, ReadOptions(targets=targets, **options)))


@pytest.mark.parametrize("smiles", ["CCO", "C[NH3+]", "CC(=O)[O-]", "c1ccccc1", "[CH3]", "C[C@H](F)Cl", "O"])
def test_a_3d_record_is_used_as_it_is(tmp_path, smiles):
    mol = solid(smiles)
    (entry,) = read(tmp_path, record(mol, "mine"))
    assert entry.name == "mine"
    structure = entry.structure
    expected = embed_smiles(smiles)
    assert np.array_equal(structure.numbers, expected.numbers)
    assert np.allclose(structure.pos, expected.pos, atol=1e-4)
    assert (structure.charge, structure.spin, structure.geometry) == (expected.charge, expected.spin, "given")
    assert structure.smiles == Chem.CanonSmiles(smiles)
    assert structure.name == f"{tmp_path}/set.sdf, record 1"


def test_v3000_a_mol_file_and_gzip(tmp_path):
    mol = solid("CCO")
    (entry,) = read(tmp_path, Chem.MolToV3KMolBlock(mol), "one.mol")
    assert entry.structure.formula == "C2H6O"
    (entry,) = read(tmp_path, record(mol), "one.SDF.gz")
    assert entry.structure.formula == "C2H6O"


def test_a_flat_molecule_that_is_said_to_be_3d_is_used_as_it_is(tmp_path):
    mol = solid("O")
    pos = mol.GetConformer().GetPositions()
    mol.GetConformer().SetPositions(pos * [1, 1, 0])
    (entry,) = read(tmp_path, record(mol))
    assert entry.structure.formula == "H2O"


@pytest.mark.parametrize("smiles", ["CCO", "C[C@H](F)Cl", "C[C@@H](F)Cl", "F/C=C/F", "F/C=C\\F", "C[NH3+]"])
def test_a_drawing_becomes_its_smiles_with_stereochemistry(tmp_path, smiles):
    (entry,) = read(tmp_path, record(drawn(smiles)))
    assert entry.structure is None
    assert entry.smiles == Chem.CanonSmiles(smiles)
    (entry,) = with_geometry([entry])
    assert np.array_equal(entry.structure.pos, embed_smiles(smiles).pos)


def test_a_record_whose_coordinates_are_all_zero_has_none(tmp_path):
    mol = solid("CCO")
    mol.GetConformer().SetPositions(np.zeros((9, 3)))
    (entry,) = read(tmp_path, record(mol))
    assert (entry.structure, entry.smiles) == (None, "CCO")


@pytest.mark.parametrize("name", ["set.sdf", "set.pdb", "set.mol2"])
def test_3d_coordinates_without_hydrogens_are_refused(tmp_path, name):
    mol = solid("CCO", hydrogens=False)
    text = {
        "set.sdf": record(mol),
        "set.pdb": Chem.MolToPDBBlock(mol),
        "set.mol2": "@<TRIPOS>MOLECULE\nx\n3 2\nSMALL\nNO_CHARGES\n\n@<TRIPOS>ATOM\n1 C 0 0 0 C.3\n2 C 1.5 0 0.1 C.3\n"
        "3 O 2 1.2 0 O.3\n@<TRIPOS>BOND\n1 1 2 1\n2 2 3 1\n",
    }[name]
    (entry,) = read(tmp_path, text, name)
    assert "has 3-D coordinates but lacks" in str(entry.error)
    assert f"{name}, record 1" in str(entry.error)


def test_properties_become_labels(tmp_path):
    mol = solid("O")
    mu, charges = Label("mu", "D", "vector"), Label("q", "e", "charges")
    text = (
        record(mol, "a", gap=7.5, mu="1 2 3", q="-0.8,0.4,0.4") + record(mol, "b", gap="") + record(mol, "c", gap="x")
    )
    first, second, third = read(tmp_path, text, "set.sdf", GAP, mu, charges)
    assert float(first.structure.labels["gap"]) == 7.5
    assert first.structure.labels["mu"].tolist() == [1, 2, 3]
    assert first.structure.labels["q"].tolist() == [-0.8, 0.4, 0.4]
    assert np.isnan(second.structure.labels["gap"])
    assert second.structure.labels["q"].shape == (3,)
    assert "record 3: label 'gap' is 'x', which is not a finite number" in str(third.error)
    (entry,) = read(tmp_path, record(mol, gap=1, mu="1 2"), "set.sdf", GAP, mu)
    assert "property 'mu' has 2 numbers" in str(entry.error)
    (entry,) = read(tmp_path, record(drawn("C"), gap=1.5), "set.sdf", GAP)
    assert float(entry.labels["gap"]) == 1.5
    twice = record(mol, gap=1).replace("$$$$", ">  <gap>\n2\n\n$$$$")
    (entry,) = read(tmp_path, twice, "set.sdf", GAP)
    assert "two different values" in str(entry.error)


WATER = record(solid("O"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WATER.replace("  3  2  0", "  5  2  0"), "line 4 says 5 atoms and 2 bonds"),
        (WATER.replace("  3  2  0", "  2  2  0"), "line 4 says 2 atoms and 2 bonds"),
        (WATER.replace("  3  2  0", "  3  1  0"), "line 4 says 3 atoms and 1 bonds"),
        (WATER.replace("  3  2  0", "  x  2  0"), "line 4 must have the numbers of atoms"),
        (WATER.replace("M  END\n", ""), "ends before 'M  END'"),
        (WATER.replace(" O  ", " Qq "), "cannot be read"),
        (WATER.replace(" O  ", " R# "), "atom 1 is a placeholder"),
        (WATER.replace(" O  ", " A  "), "atom 1 is a placeholder"),
        (WATER.replace(" O  ", " F  "), "not a possible molecule: Explicit valence"),
        (WATER.replace(WATER.splitlines()[4][:10], "       nan"), "record 2"),
        ("\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n", "has no atoms"),
        ("\x00\x01 nothing \n$$$$\n", "ends before 'M  END'"),
    ],
)
def test_a_broken_record_is_an_error_and_the_next_is_read(tmp_path, text, message):
    before, broken, after = read(tmp_path, WATER + text + WATER)
    assert before.structure.formula == after.structure.formula == "H2O"
    assert broken.structure is None
    assert message in str(broken.error)
    assert "set.sdf, record 2" in str(broken.error)
    assert "\n" not in str(broken.error)


def test_spellings_of_sdf(tmp_path):
    text = WATER.replace("\n", "\r\n")
    assert [entry.structure.formula for entry in read(tmp_path, text + text)] == ["H2O", "H2O"]
    (entry,) = read(tmp_path, "\ufeff" + record(solid("O"), "title"))
    assert entry.name == "title"
    (entry,) = read(tmp_path, record(solid("O"), "Müller").encode("latin-1"))
    assert entry.structure.formula == "H2O"
    assert len(read(tmp_path, WATER + "\n\n")) == 1


@pytest.mark.parametrize("name", ["set.sdf", "set.pdb", "set.mol2"])
def test_files_without_records(tmp_path, name):
    assert "is empty" in str(read(tmp_path, "", name)[0].error)
    (entry,) = read(tmp_path, "\n \n", name)
    assert "has no records" in str(entry.error)
    (entry,) = read(tmp_path, WATER * 100, f"{name}.gz", max_bytes=2000)[-1:]
    assert "is larger than allowed" in str(entry.error)


@pytest.mark.parametrize("name", ["set.sdf", "set.pdb", "set.mol2"])
def test_a_file_without_separators_is_not_read_as_a_whole(tmp_path, monkeypatch, name):
    monkeypatch.setattr(molfile, "MAX_RECORD", 10_000)
    (entry,) = read(tmp_path, "ATOM\n" * 5000, name)
    assert "a record of more than 10000 bytes" in str(entry.error)
    (entry,) = read(tmp_path, "A" * 50_000, name)
    assert "a record of more than 10000 bytes" in str(entry.error)


@pytest.mark.parametrize(
    "smiles", ["CCO", "c1ccccc1", "CC#C", "C=C=C", "[C-]#[O+]", "CC(=O)[O-]", "C[NH3+]", "NCC(=O)O"]
)
def test_pdb_and_mol2_keep_the_molecule(tmp_path, smiles):
    expected = embed_smiles(smiles)
    (entry,) = read(tmp_path, "TITLE     mine\n" + Chem.MolToPDBBlock(solid(smiles)), "set.pdb")
    assert entry.name == "mine"
    assert np.array_equal(entry.structure.numbers, expected.numbers)
    assert np.allclose(entry.structure.pos, expected.pos, atol=2e-3)
    assert (entry.structure.charge, entry.structure.geometry) == (expected.charge, "given")
    if "-" not in smiles:
        (entry,) = read(tmp_path, mol2(smiles), "set.mol2")
        assert entry.name == smiles
        assert np.array_equal(entry.structure.numbers, expected.numbers)
        assert np.allclose(entry.structure.pos, expected.pos, atol=1e-4)
        assert entry.structure.charge == expected.charge


def test_models_of_a_pdb_file(tmp_path):
    atoms = Chem.MolToPDBBlock(solid("CCO"), flavor=2).replace("END\n", "")
    text = "".join(f"MODEL     {k}\n{atoms}ENDMDL\n" for k in (1, 2)) + "END\n"
    assert [entry.structure.formula for entry in read(tmp_path, text, "set.ent")] == ["C2H6O"] * 2
    broken = text.replace(atoms, atoms.replace(atoms.splitlines()[0][30:38], "     nan"), 1)
    first, second = read(tmp_path, broken, "set.pdb")
    assert "record 1: atom 1 has no coordinates in columns 31-54" in str(first.error)
    assert second.structure.formula == "C2H6O"
    (entry,) = read(tmp_path, atoms[:-40], "set.pdb")
    assert entry.error is not None


@pytest.mark.parametrize(
    "smiles", ["CC(C)(C)C", "C1CC1", "CC(C)C", "C=C", "C#C", "c1ccncc1", "CC", "CO", "N", "O", "C=O"]
)
def test_a_carbon_or_a_bare_atom_that_lost_one_hydrogen_is_found(tmp_path, smiles):
    mol = Chem.RWMol(solid(smiles))
    Chem.Kekulize(mol, clearAromaticFlags=True)
    lost = next(atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 1)
    judged = lost.GetNeighbors()[0].GetAtomicNum() == 6
    mol.RemoveAtom(lost.GetIdx())
    (entry,) = read(tmp_path, Chem.MolToPDBBlock(mol, flavor=2), "set.pdb")
    assert (entry.error is not None) == judged
    (entry,) = read(tmp_path, Chem.MolToPDBBlock(solid(smiles), flavor=2), "set.pdb")
    assert entry.error is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\n9 8 0", "\n8 8 0"), "says 8 atoms and 8 bonds and has 9 and 8"),
        (("\n9 8 0", "\n9 9 0"), "says 9 atoms and 9 bonds and has 9 and 8"),
        (("\n9 8 0", "\nx 8 0"), "line 3 must have the numbers"),
        ((" C.3 ", " Qq.3 "), "cannot be read"),
        (("@<TRIPOS>BOND", "@<TRIPOS>BANDS"), "has 9 and 0"),
    ],
)
def test_a_broken_mol2_record_is_an_error_and_the_next_is_read(tmp_path, change, message):
    good = mol2("CCO")
    broken, after = read(tmp_path, good.replace(*change) + good, "set.mol2")
    assert message in str(broken.error)
    assert after.structure.formula == "C2H6O"


def test_charges_of_mol2_must_agree(tmp_path):
    (entry,) = read(tmp_path, mol2("C[NH3+]", "GASTEIGER", 1.02), "set.mol2")
    assert entry.structure.charge == 1
    (entry,) = read(tmp_path, mol2("CO", "GASTEIGER", 1.0), "set.mol2")
    assert "partial charges sum to 1.00" in str(entry.error)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_gives_entries_and_never_another_exception_or_number(tmp_path_factory, data):
    name, text = data.draw(
        st.sampled_from([("a.sdf", WATER * 2), ("a.pdb", Chem.MolToPDBBlock(solid("C"))), ("a.mol2", mol2("CCO"))])
    )
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=10))
        content = content or bytearray(b" ")
    for entry in read(tmp_path_factory.mktemp("damage"), bytes(content), name):
        assert isinstance(entry.error, MolformerError) or entry.smiles or np.isfinite(entry.structure.pos).all()


FLAT = """@<TRIPOS>MOLECULE
formaldehyde
4 3 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
1 C1 0.0000 0.0000 0.0 C.2 1 MOL 0.0
2 O1 0.0000 1.2050 0.0 O.2 1 MOL 0.0
3 H1 0.9429 -0.5876 0.0 H 1 MOL 0.0
4 H2 -0.9429 -0.5876 0.0 H 1 MOL 0.0
@<TRIPOS>BOND
1 1 2 2
2 1 3 1
3 1 4 1
"""


def test_a_flat_molecule_with_all_hydrogens_is_taken_as_it_is(tmp_path):
    (tmp_path / "flat.mol2").write_text(FLAT)
    (entry,) = read_file(tmp_path / "flat.mol2")
    assert entry.structure.pos[1].tolist() == [0, 1.205, 0]
    (tmp_path / "drawn.mol2").write_text(FLAT.replace("1.2050", "1.9000"))
    (entry,) = read_file(tmp_path / "drawn.mol2")
    assert entry.structure is None
    assert entry.smiles == "C=O"


def test_a_flat_atom_with_four_neighbours_is_a_drawing_whatever_its_bonds(tmp_path):
    places = ((0, 0), (1.09, 0), (-1.09, 0), (0, 1.09), (0, -1.09))
    atoms = "".join(f"{i} A{i} {x} {y} 0.0 {'H' if i > 1 else 'C.3'} 1 M 0.0\n" for i, (x, y) in enumerate(places, 1))
    bonds = "".join(f"{i} 1 {i + 1} 1\n" for i in range(1, 5))
    head = "@<TRIPOS>MOLECULE\nmethane\n5 4 0 0 0\nSMALL\nNO_CHARGES\n\n"
    (tmp_path / "a.mol2").write_text(f"{head}@<TRIPOS>ATOM\n{atoms}@<TRIPOS>BOND\n{bonds}")
    (entry,) = read_file(tmp_path / "a.mol2")
    assert (entry.structure, entry.smiles) == (None, "C")


@pytest.mark.parametrize("smiles", ["C", "N", "CCO"])
def test_a_drawing_with_all_hydrogens_stays_a_drawing(tmp_path, smiles):
    from rdkit.Chem import rdDepictor

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDepictor.Compute2DCoords(mol)
    block = Chem.MolToMolBlock(mol)
    for text in (block, block.replace("2D", "  ", 1)):
        (tmp_path / "a.mol").write_text(text)
        (entry,) = read_file(tmp_path / "a.mol")
        assert entry.structure is None
        assert entry.smiles == smiles


def test_hydrogens_are_added_where_that_is_asked_for(tmp_path):
    whole, path = solid("CCO"), tmp_path / "a.sdf"
    path.write_text(record(Chem.RemoveHs(whole), "ethanol"))
    (refused,), (entry,) = read_file(path), read_file(path, ReadOptions(add_hydrogens=True))
    assert "lacks 6 of its hydrogens" in str(refused.error)
    assert "--add-hydrogens" in str(refused.error)
    assert entry.structure.formula == "C2H6O"
    assert np.allclose(entry.structure.pos[:3], Chem.RemoveHs(whole).GetConformer().GetPositions(), atol=1e-3)
    lengths = np.linalg.norm(entry.structure.pos[:, None] - entry.structure.pos, axis=-1)
    assert 0.9 < lengths[3:, :3].min(axis=1).min() < lengths[3:, :3].min(axis=1).max() < 1.2


def test_hydrogens_are_added_to_residues_of_pdb_and_not_to_others(tmp_path):
    from rdkit.Chem import rdDistGeom

    peptide = Chem.AddHs(Chem.MolFromSequence("AG"))
    rdDistGeom.EmbedMolecule(peptide, randomSeed=1)
    bare = Chem.RemoveHs(peptide)
    (tmp_path / "a.pdb").write_text(Chem.MolToPDBBlock(bare))
    (entry,) = read_file(tmp_path / "a.pdb", ReadOptions(add_hydrogens=True))
    assert entry.structure.formula == "C5H10N2O3"
    (tmp_path / "b.pdb").write_text(Chem.MolToPDBBlock(Chem.RemoveHs(solid("CCO"))))
    (entry,) = read_file(tmp_path / "b.pdb", ReadOptions(add_hydrogens=True))
    assert "hydrogens cannot be added to 'UNL'" in str(entry.error)


def test_what_rdkit_raises_unannounced_is_the_error_of_its_record(tmp_path, monkeypatch):
    def explode(*_):
        raise Chem.AtomValenceException("Explicit valence")

    path = tmp_path / "a.sdf"
    path.write_text(record(solid("CCO")))
    monkeypatch.setattr(molfile, "smiles_of", explode)
    (entry,) = read_file(path)
    assert "record 1 cannot be read" in str(entry.error)


def test_a_censored_property_is_a_bound_and_refused_on_request(tmp_path):
    path = tmp_path / "set.sdf"
    path.write_text(record(solid("CO"), gap=">5") + record(solid("CN"), gap="<= 0.5") + record(solid("C"), gap="~2"))
    found = [entry.labels or entry.structure.labels for entry in read_file(path, ReadOptions((GAP,)))]
    assert [{name: float(value) for name, value in each.items() if value == value} for each in found] == [
        {"gap>": 5.0},
        {"gap<": 0.5},
        {"gap": 2.0},
    ]
    first, *_ = read_file(path, ReadOptions((GAP,), censored="refuse"))
    assert "record 1: label 'gap' is '>5', a bound" in str(first.error)
