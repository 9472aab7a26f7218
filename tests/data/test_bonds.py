"""Molecular graphs: from SMILES and files, perceived, selected, and with hydrogens that are none of the atoms."""

from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molformer.data.bonds import graph_of, perceive_bonds
from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.hydrogens import heavy_atom_store, heavy_atoms, on_all_atoms, with_hydrogens
from molformer.data.readers import ReadOptions, read_input
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.errors import InputError
from molformer.molecular_graph import ATOM_FEATURES, MolecularGraph

ALANINE = "C[C@H]([NH3+])C(=O)[O-]"
MOLECULES = (ALANINE, "c1ccccc1C#N", "CS(=O)C", "C1CC1/C=C/Cl", "[NH4+]", "O=[N+]([O-])c1ccco1", "[H][H]", "CP(C)(C)=O")


def embedded(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    return mol


def rows(graph):
    """Atoms as tuples with their bonds, whatever their order: a graph without the numbering."""
    ends = [[] for _ in range(len(graph))]
    for (i, j), features in zip(graph.bonds.tolist(), graph.bond_features.tolist(), strict=True):
        ends[i].append((tuple(graph.atom_features[j]), tuple(features)))
        ends[j].append((tuple(graph.atom_features[i]), tuple(features)))
    return sorted((tuple(atom), sorted(mine)) for atom, mine in zip(graph.atom_features, ends, strict=True))


def column(graph, name):
    return graph.atom_features[:, ATOM_FEATURES.index(name)].tolist()


def test_features_of_atoms_and_bonds():
    graph = graph_of(Chem.MolFromSmiles("C[C@H]([NH3+])C(=O)[O-]"))
    assert column(graph, "formal_charge") == [0, 0, 1, 0, 0, -1]
    assert column(graph, "hybridisation") == [4, 4, 4, 3, 3, 3]
    assert column(graph, "hydrogens") == [3, 1, 3, 0, 0, 0]
    assert column(graph, "chirality") == [0, 2, 0, 0, 0, 0]
    assert column(graph_of(Chem.MolFromSmiles("C[C@@H]([NH3+])C(=O)[O-]")), "chirality")[1] == 1
    ring = graph_of(Chem.MolFromSmiles("c1ccccc1C#N"))
    assert column(ring, "aromatic") == [1] * 6 + [0] * 2
    assert column(ring, "ring_size") == [6] * 6 + [0] * 2
    features = dict(zip(map(tuple, ring.bonds.tolist()), ring.bond_features.tolist(), strict=True))
    assert (features[0, 1], features[5, 6], features[6, 7]) == ([4, 1, 1], [1, 1, 0], [3, 1, 0])


@pytest.mark.parametrize("smiles", MOLECULES)
def test_every_door_with_bonds_gives_the_same_graph(smiles, tmp_path):
    """SMILES with hydrogens added, an RDKit molecule, SDF, and bonds perceived from the same geometry."""
    mol = embedded(smiles)
    expected = rows(graph_of(mol))
    assert rows(embed_smiles(smiles, ConformerPolicy("etkdg")).molecular_graph) == expected
    (tmp_path / "one.sdf").write_text(Chem.MolToMolBlock(mol))
    for source in (mol, tmp_path / "one.sdf"):
        assert rows(next(read_input(source)).structure.molecular_graph) == expected
    (tmp_path / "one.xyz").write_text(
        Chem.MolToXYZBlock(mol).replace("\n\n", f"\ncharge={Chem.GetFormalCharge(mol)}\n", 1)
    )
    assert next(read_input(tmp_path / "one.xyz")).structure.molecular_graph is None
    (perceived,) = read_input(tmp_path / "one.xyz", ReadOptions(bonds="perceive"))
    assert rows(perceived.structure.molecular_graph) == expected


def test_pdb_has_a_graph_where_it_lists_the_bonds(tmp_path):
    mol = embedded("c1ccccc1O")
    block = Chem.MolToPDBBlock(mol)
    (tmp_path / "with.pdb").write_text(block)
    (tmp_path / "without.pdb").write_text("\n".join(x for x in block.splitlines() if not x.startswith("CONECT")))
    with_bonds, without = (next(read_input(tmp_path / f"{name}.pdb")).structure for name in ("with", "without"))
    assert rows(with_bonds.molecular_graph) == rows(graph_of(mol))
    assert without.molecular_graph is None
    assert rows(perceive_bonds(without).molecular_graph) == rows(graph_of(mol))


def test_a_mol2_file_has_a_graph(tmp_path):
    lines = ["@<TRIPOS>MOLECULE", "water", "3 2", "SMALL", "NO_CHARGES", "@<TRIPOS>ATOM"]
    lines += ["1 O 0 0 0.1 O.3", "2 H 0.96 0 0 H", "3 H -0.24 0.93 0 H", "@<TRIPOS>BOND", "1 1 2 1", "2 1 3 1", ""]
    (tmp_path / "water.mol2").write_text("\n".join(lines))
    graph = next(read_input(tmp_path / "water.mol2")).structure.molecular_graph
    assert rows(graph) == rows(graph_of(embedded("O")))


def test_what_has_no_bonds_to_perceive_is_an_error_or_left_as_it_is(tmp_path):
    methyl = embed_smiles("C")
    bare = Structure(methyl.numbers, methyl.pos, charge=5)
    with pytest.raises(InputError, match=r"CH4: its bonds cannot be perceived .*: check its charge of \+5"):
        perceive_bonds(bare)
    (tmp_path / "bad.xyz").write_text("2\ncharge=7\nC 0 0 0\nO 0 0 1.1\n")
    (entry,) = read_input(tmp_path / "bad.xyz", ReadOptions(bonds="perceive"))
    assert entry.structure is None
    assert "bonds cannot be perceived" in str(entry.error)
    crystal = Structure([11], [[0, 0, 0]], cell=4 * np.eye(3))
    assert perceive_bonds(crystal) is crystal
    with pytest.raises(InputError, match="bonds 'guess' is not one of given, perceive"):
        ReadOptions(bonds="guess")


def test_atoms_are_selected_with_their_bonds():
    molecule = embed_smiles(ALANINE)
    order = np.random.default_rng(0).permutation(len(molecule))
    other = molecule.select(order)
    assert rows(other.molecular_graph) == rows(molecule.molecular_graph)
    lengths = [
        np.linalg.norm(each.pos[np.array(each.molecular_graph.bonds)] @ np.ones(3)) for each in (molecule, other)
    ]
    assert np.isclose(*lengths)  # the bonds are between the same places
    part = molecule.select([2, 0])
    assert (part.molecular_graph.bonds.size, len(part.molecular_graph)) == (0, 2)


def test_a_graph_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="a molecular graph of 1 atoms does not fit 2 atoms"):
        Structure([1, 1], [[0, 0, 0], [0, 0, 0.7]], molecular_graph=MolecularGraph.unknown(1))


@pytest.mark.parametrize(
    ("smiles", "formula", "spin"),
    [("CCO", "C2O", 1), ("CN", "CN", 1), ("[H][H]", "H2", 1), ("C[CH2]", "C2", 2), ("[NH4+]", "N", 1)],
)
def test_implicit_hydrogens_are_counted_by_their_atoms(smiles, formula, spin):
    molecule = embed_smiles(smiles)
    heavy = heavy_atoms(molecule)
    assert (heavy.formula, heavy.charge, heavy.spin) == (formula, molecule.charge, spin)
    absent = heavy.molecular_graph.absent_hydrogens(heavy.numbers)
    assert len(heavy) + absent == len(molecule)
    assert heavy_atoms(heavy).formula == formula


def test_a_heavy_atom_has_the_charge_of_its_hydrogens_too():
    ethanol = embed_smiles("CCO")
    charges = np.array([0.1, 0.2, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])  # C C O, three H, two H, one H
    united = with_hydrogens(ethanol, charges)
    assert united == pytest.approx([7.1, 24.2, 32.3])
    assert on_all_atoms(ethanol, np.stack([united, 2 * united])) == pytest.approx(
        np.array([[7.1, 24.2, 32.3, *[0] * 6], [14.2, 48.4, 64.6, *[0] * 6]])
    )


def test_a_store_of_heavy_atoms_has_their_charges(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLFORMER_CACHE", str(tmp_path))
    molecules = [
        replace(molecule, labels={"q": np.full(len(molecule), 0.5)}) for molecule in map(embed_smiles, ("CO", "[NH4+]"))
    ]
    store = heavy_atom_store(write_store(tmp_path / "all", molecules, [Label("q", "e", "charges")]))
    assert [one.labels["q"].tolist() for one in store] == [[2.0, 1.0], [2.5]]


def test_an_odd_number_of_electrons_is_no_singlet():
    water = embed_smiles("O")
    assert Structure(water.numbers, water.pos, charge=1).spin == 2
    assert Structure(water.numbers, water.pos, charge=1, spin=4).spin == 4
    assert Structure(water.numbers, water.pos).spin == 1


def test_bonds_of_a_radical_are_perceived():
    ethyl = embed_smiles("C[CH2]", ConformerPolicy("etkdg"))
    perceived = perceive_bonds(Structure(ethyl.numbers, ethyl.pos, spin=2)).molecular_graph
    assert column(perceived, "formal_charge") == [0] * len(ethyl)
    pairs = [{frozenset(pair) for pair in each.bonds.tolist()} for each in (perceived, ethyl.molecular_graph)]
    assert pairs[0] == pairs[1]
