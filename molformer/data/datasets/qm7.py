"""QM7 as it was published: a MATLAB file of arrays that are padded with zeros to 23 atoms.

`Z` (n, 23) atomic numbers, `R` (n, 23, 3) positions in bohr, `T` (1, n) atomization energies in kcal/mol.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from molformer.data.datasets.dataset import DataSet
from molformer.data.readers import Entry, ReadOptions
from molformer.data.readers.files import open_bytes
from molformer.errors import InputError
from molformer.structure import Structure
from molformer.units import BOHR


def read_qm7(path: Path, dataset: DataSet) -> Iterator[Entry]:
    """Molecules of the file, in its order."""
    from scipy.io import loadmat

    try:
        with open_bytes(path, ReadOptions().max_bytes) as file:
            content = file.read()
        arrays = loadmat(io.BytesIO(content), variable_names=("Z", "R", "T"))
        numbers = arrays["Z"].astype(np.int64)
        pos = arrays["R"].astype(np.float64) * BOHR
        energy = arrays["T"].astype(np.float64).reshape(-1)
        if pos.shape != (*numbers.shape, 3) or energy.shape != numbers.shape[:1]:
            raise ValueError(f"shapes Z {numbers.shape}, R {pos.shape} and T {energy.shape} do not fit")
    except InputError:
        raise
    except Exception as error:  # scipy raises whatever its parser stumbles over
        reason = f"there is no array {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"'{path}' is not the file of QM7: {reason}") from None
    (label,) = dataset.labels
    for row in range(len(numbers)):
        where = f"{path}, molecule {row + 1}"
        atoms = numbers[row] > 0
        try:
            structure = Structure(
                numbers[row, atoms], pos[row, atoms], name=where, group=row, labels={label.name: energy[row]}
            )
            yield Entry(f"qm7 {row + 1}", where=where, structure=structure)
        except InputError as error:
            yield Entry(f"qm7 {row + 1}", where=where, error=error)
