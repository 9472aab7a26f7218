"""Well-known property names: their kinds and default units.

The names are those of QM9 (Ramakrishnan et al. 2014, doi 10.1038/sdata.2014.22), of sGDML files, of ASE and of SPICE,
the default unit that of the data set: hartree for QM9, eV for ASE. Extensive are what grows with the number of atoms:
energies, atomization energies too, the zero-point energy and the heat capacity, and, as models of this field that sum
over atoms fit them best, the polarizability and <R²>. Intensive are what belongs to the molecule as a whole: orbital
energies, their gap, and the length `mu` of the dipole; rotational constants even shrink as it grows.
"""

import numpy as np

from molformer import units
from molformer.targets import Label
from molformer.targets.registry import kind_of_shape

DESCRIPTOR = "rdkit."  # begins the name of a label that is a descriptor of RDKit, see `molformer.data.descriptors`

_KNOWN: dict[tuple[str, str], str] = {
    ("intensive", "Ha"): "homo lumo gap homo_lumo_gap",
    ("intensive", "eV"): "bandgap band_gap",
    ("intensive", "D"): "mu dipole_norm dipole_magnitude",
    ("intensive", "GHz"): "A B C rot_a rot_b rot_c rotational_constant_a rotational_constant_b rotational_constant_c",
    ("extensive", "a0^3"): "alpha isotropic_polarizability",
    ("extensive", "a0^2"): "r2 <r2> <r^2> electronic_spatial_extent",
    ("extensive", "Ha"): (
        "zpve u0 u298 h298 g298 u0_atom u298_atom h298_atom g298_atom energy_u0 energy_u enthalpy_h "
        "free_energy_g eat_g4mp2 dft_total_energy"
    ),
    ("extensive", "eV"): (
        "E energy energies total_energy potential_energy free_energy formation_energy atomization_energy "
        "ref_energy dft_energy"
    ),
    ("extensive", "cal/mol/K"): "cv heat_capacity",
    ("forces", "eV/Å"): "F forces force ref_forces dft_forces",
    ("stress", "eV/Å^3"): "stress stress_tensor ref_stress dft_stress",
    ("atom_vector", "Å"): "displacements displacement",
    ("atom_vector", ""): "velocities velocity",
    ("vector", "D"): "dipole dipole_moment dipole_vector ref_dipole dft_dipole scf_dipole",
    ("tensor", "a0^3"): "polarizability polarizability_tensor",
    ("charges", "e"): "charges partial_charges atomic_charges mulliken_charges mbis_charges hirshfeld_charges",
}

_FROM_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]  # place of xx, xy, xz, yx, … among xx, yy, zz, yz, xz, xy

_TABLE = {name: (kind, unit) for (kind, unit), names in _KNOWN.items() for name in names.split()}


def known_label(name: str, unit: str = "") -> Label | None:
    """Label of a well-known property; None if the name is unknown, or the unit is of another dimension.

    Names of one letter are case-sensitive, others are not. Without a unit it is the default one of the property.

    Raises:
        UnitError: the unit is not known.

    Example:
        >>> known_label("U0", "Ha")
        Label(name='U0', unit='Ha', kind='extensive', classes=())
        >>> known_label("colour") is None
        True
    """
    key = name if len(name) == 1 else name.lower()
    if key not in _TABLE:
        return None
    kind, usual = _TABLE[key]
    if unit and units.dimension(unit) != units.dimension(usual):
        return None
    return Label(name, unit or usual, kind)


def label_of_shape(name: str, shape: tuple[int, ...], per_atom: bool, unit: str = "") -> Label | None:
    """Label for values of a name and a shape, that of one structure or atom; None where no kind of label has this
    shape.

    A known name has its kind if the shape agrees. A known name with another shape, such as `mu` with three components,
    and an unknown name have the kind of the shape, and no default unit.

    Example:
        >>> label_of_shape("mu", (3,), per_atom=False).kind
        'vector'
    """
    known = known_label(name, unit)
    if known is not None and known.per_node == per_atom and known.target_kind.fits(shape):
        return known
    kind = kind_of_shape(shape, per_atom)
    return None if kind is None else Label(name, unit, kind.name)


def shaped(label: Label, values: np.ndarray, rows: tuple[int, ...] = ()) -> np.ndarray:
    """Values (*rows, …) of a label, each of a shape that its kind `fits`, in the label's own shape (*rows,
    *label.shape).

    A matrix may lie flat, and a stress may be the six numbers xx, yy, zz, yz, xz, xy (Voigt).

    Example:
        >>> shaped(Label("stress", "GPa", "stress"), np.array([1.0, 2, 3, 4, 5, 6])).tolist()
        [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]
    """
    if label.target_kind.voigt and values.shape == (*rows, 6):
        values = values[..., _FROM_VOIGT]
    return values.reshape((*rows, *label.shape))
