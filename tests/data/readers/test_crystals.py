import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from molformer.data.readers import is_file, read_file

SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True)


@pytest.mark.parametrize("name", ["salt.cif", "salt.vasp", "POSCAR", "CONTCAR_1", "salt.poscar"])
def test_crystals_come_with_their_cell(tmp_path, name):
    write(tmp_path / name, SALT, format="cif" if name.endswith("cif") else "vasp")
    assert is_file(str(tmp_path / name))
    (entry,) = read_file(tmp_path / name)
    structure = entry.structure
    assert structure.formula == "Cl4Na4"
    assert structure.periodic
    assert np.allclose(structure.cell, 5.64 * np.eye(3))
    distances = SALT.get_all_distances(mic=True)
    assert np.isclose(np.sort(distances[0])[1], 2.82)


def test_the_symmetry_of_a_cif_is_applied(tmp_path):
    (tmp_path / "salt.cif").write_text(
        "data_salt\n_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'F m -3 m'\n"
        "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
        "_atom_site_fract_z\n_atom_site_occupancy\nNa1 Na 0 0 0 1.0\nCl1 Cl 0.5 0 0 1.0\n"
    )
    (entry,) = read_file(tmp_path / "salt.cif")
    assert entry.structure.formula == "Cl4Na4"
    text = (tmp_path / "salt.cif").read_text().replace("Cl 0.5 0 0 1.0", "Cl 0.5 0 0 0.5")
    (tmp_path / "salt.cif").write_text(text)
    (entry,) = read_file(tmp_path / "salt.cif")
    assert "occupied in part (Cl 0.5)" in str(entry.error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cif", "data_x", "has no atoms with a cell"),
        ("a.cif", "hello", "cannot be read as CIF"),
        ("POSCAR", "x", "sixth line does not name the elements"),
        ("POSCAR", "x\n1\n9 0 0\n0 9 0\n0 0 9\n1\nDirect\n0 0 0\n", "sixth line does not name the elements"),
        ("POSCAR", "x\n1\n9 0 0\n0 9 0\n0 0 9\nH\n2\nDirect\n0 0 0\n", "cannot be read as POSCAR"),
        ("a.xlsx", "PK", "files of type '.xlsx' cannot be read; use .smi"),
        ("a.log", "x", "files of type '.log' cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    assert is_file(str(tmp_path / name))
    (entry,) = read_file(tmp_path / name)
    assert message in str(entry.error)


def test_a_smiles_with_a_dot_or_a_slash_is_no_file():
    assert not is_file("C.C")
    assert not is_file("F/C=C/F")
