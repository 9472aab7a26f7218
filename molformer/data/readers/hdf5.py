"""HDF5 files of molecules, as SPICE and other QCArchive exports have them; those with other content are clouds.

A group of the file is a molecule: `atomic_numbers` (a,), `conformations` (k, a, 3) in bohr, and for each conformation
any of `dft_total_energy`, `formation_energy` (k,) in Ha, `dft_total_gradient` (k, a, 3) in Ha/a0, `scf_dipole` (k, 3)
in e·a0 and `mbis_charges` (k, a) in e; an attribute `units` of an array replaces its unit. They become the labels
`energy`, `formation_energy`, `forces` (minus the gradient), `dipole` and `charges`. The conformations of a molecule are
one group.

SPICE: Eastman et al. 2023, doi 10.1038/s41597-022-01882-6. Letters: k conformations, a atoms.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molformer import units
from molformer.data.readers.annotations import refuse_placeholders
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.hdf5_members import member, open_hdf5
from molformer.data.readers.points import FORMAT as POINTS
from molformer.errors import DAMAGE, InputError, UnitError, one_line
from molformer.structure import Structure
from molformer.targets import Label

_LABELS = {
    "energy": ("dft_total_energy", Label("energy", "Ha", "extensive"), 1.0),
    "formation_energy": ("formation_energy", Label("formation_energy", "Ha", "extensive"), 1.0),
    "forces": ("dft_total_gradient", Label("forces", "Ha/a0", "forces"), -1.0),
    "dipole": ("scf_dipole", Label("dipole", "e·a0", "vector"), 1.0),
    "charges": ("mbis_charges", Label("charges", "e", "charges"), 1.0),
}
"""Labels by name: the array that holds them, their usual unit and kind, and their sign."""


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Conformations of a file, molecule by molecule. Without targets, all labels are read."""
    with open_hdf5(path, options.max_bytes) as file:
        first = next(_molecules(file), None)
        if first is not None:
            wanted = options.targets or _labels_of(first)
            for group, molecule in enumerate(_molecules(file)):
                yield from _entries(path, group, molecule, wanted)
    if first is None:
        yield from POINTS.read(path, options)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """The labels of the first molecule."""
    with open_hdf5(path, options.max_bytes) as file:
        first = next(_molecules(file), None)
        if first is not None:
            return list(_labels_of(first))
    return POINTS.labels(path, options)


def _molecules(file: Any) -> Iterator[Any]:
    for name in file:
        group = member(file, name)
        if hasattr(group, "keys") and {"atomic_numbers", "conformations"} <= {*group}:
            yield group


def _labels_of(molecule: Any) -> tuple[Label, ...]:
    return tuple(label for name, label, _ in _LABELS.values() if name in {*molecule})


def _entries(path: Path, group: int, molecule: Any, wanted: tuple[Label, ...]) -> Iterator[Entry]:
    title = molecule.name.strip("/")
    try:
        numbers = _array(molecule, "atomic_numbers", (None,)).astype(np.int64)
        pos = _array(molecule, "conformations", (None, len(numbers), 3))
        pos = pos * units.factor(_unit(member(molecule, "conformations"), "a0"), "Å")
        smiles = _text(member(molecule, "smiles")) if "smiles" in {*molecule} else ""
        charge = _charge(smiles)
        values = {label.name: _values(molecule, label, len(pos), len(numbers)) for label in wanted}
        refuse_placeholders(numbers)
    except (InputError, UnitError, *DAMAGE) as error:
        yield Entry(title, where=f"{path}, {title}", error=InputError(f"{path}, {title}: {one_line(error)}"))
        return
    for row in range(len(pos)):
        where = f"{path}, {title}, conformation {row + 1}"
        labels = {name: array[row] for name, array in values.items() if array is not None}
        try:
            structure = Structure(
                numbers, pos[row], charge=charge, smiles=smiles, name=where, group=group, labels=labels
            )
            yield Entry(title, where=where, structure=structure)
        except InputError as error:
            yield Entry(title, where=where, error=error)


def _values(molecule: Any, label: Label, count: int, atoms: int) -> np.ndarray | None:
    """Values of all conformations in the label's unit; None where the molecule has none, as some of SPICE."""
    if label.name not in _LABELS:
        raise InputError(f"there is no label '{label.name}'; those of such a file: {', '.join(_LABELS)}")
    name, usual, sign = _LABELS[label.name]
    if label.kind != usual.kind:
        raise InputError(f"label '{label.name}' is of kind '{usual.kind}', not '{label.kind}'")
    if name not in {*molecule}:  # `in molecule` would follow links
        return None
    shape = (count, atoms, *usual.shape) if usual.per_node else (count, *usual.shape)
    flat = member(molecule, name).ndim == len(shape)  # charges have one axis more, of length 1
    array = _array(molecule, name, shape if flat else (*shape, 1)).reshape(shape)
    return sign * array * units.factor(_unit(molecule[name], usual.unit), label.unit)


def _array(molecule: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    found = member(molecule, name)
    fits = len(found.shape) == len(shape) and all(b in (None, a) for a, b in zip(found.shape, shape, strict=True))
    if not fits or found.dtype.kind not in "fiu":
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(f"'{name}' is of type {found.dtype} and shape {found.shape}, expected numbers ({expected})")
    return found[()].astype(np.float64)


def _unit(array: Any, usual: str) -> str:
    return str(array.attrs.get("units", usual))


def _text(array: Any) -> str:
    value = np.ravel(array[()])[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _charge(smiles: str) -> int:
    """Sum of the formal charges; SPICE, of which a part is ions, says it nowhere else."""
    from rdkit import Chem, rdBase

    if not smiles:
        return 0
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    return Chem.GetFormalCharge(molecule) if molecule is not None else 0


FORMAT = Format(read, labels, None)
