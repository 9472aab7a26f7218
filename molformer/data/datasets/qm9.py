"""QM9 as it was published: a tar of one file a molecule, and a list of those whose geometry is not that of its SMILES.

A file has the number of atoms; `gdb`, an index and 15 properties; a line for each atom with its symbol, position in Å
and Mulliken charge; the frequencies; two SMILES, of GDB and of the relaxed geometry; two InChI. Some exponents are
written `*^`.
"""

import io
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from molformer.data.datasets.dataset import DataSet
from molformer.data.known_labels import known_label
from molformer.data.readers import Entry
from molformer.data.readers.xyz_frames import parse, raw_frames
from molformer.errors import InputError
from molformer.structure import Structure

UNCHARACTERIZED = "uncharacterized.txt"

_PROPERTIES = "A B C mu alpha homo lumo gap r2 zpve u0 u298 h298 g298 cv"
"""Names of the numbers in the line of properties, after `gdb` and the index."""

LABELS = tuple(label for name in (*_PROPERTIES.split(), "charges") if (label := known_label(name)) is not None)

logger = logging.getLogger(__name__)


def read_qm9(path: Path, dataset: DataSet) -> Iterator[Entry]:
    """Molecules of the tar; those on the list beside it are entries with an error that says so."""
    excluded = _uncharacterized(path.with_name(UNCHARACTERIZED))
    found = False
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.name.endswith(".xyz") and (file := archive.extractfile(member)) is not None:
                    found = True
                    where = f"{path}, {Path(member.name).name}"
                    yield _entry(file.read().decode(errors="replace"), where, excluded)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"'{path}' is not a whole tar of QM9: {reason}") from None
    if not found:
        raise InputError(f"'{path}' holds no molecule of QM9: it has no file that ends in .xyz")


def _uncharacterized(path: Path) -> frozenset[int]:
    """Indices of the molecules that the authors of QM9 list as not consistent; rows of the list begin with one."""
    if not path.is_file():
        logger.warning("'%s' is not there: the molecules of QM9 that it lists are included", path)
        return frozenset()
    rows = re.findall(r"^\s*(\d+)\s+(?!compounds)\S", path.read_text(errors="replace"), re.MULTILINE)
    if not rows:
        raise InputError(f"'{path}' is not the list of uncharacterized molecules of QM9: no row begins with an index")
    return frozenset(int(row) for row in rows)


def _entry(text: str, where: str, excluded: frozenset[int]) -> Entry:
    name = ""
    try:
        lines = text.splitlines()
        index = int(lines[1].split()[1])
        name = f"gdb {index}"
        if index in excluded:
            raise InputError(f"its geometry is not that of its SMILES; it is listed in {UNCHARACTERIZED}")
        frame = parse(next(raw_frames(io.StringIO(text))))
        labels = {label.name: (frame.each if label.per_node else frame.whole)[label.name] for label in LABELS}
        structure = Structure(
            frame.numbers,
            frame.pos,
            smiles=lines[len(frame.numbers) + 3].split()[-1],
            name=where,
            group=index,
            labels=labels,
        )
        return Entry(name, where=where, structure=structure)
    except InputError as error:
        return Entry(name or where, where=where, error=InputError(f"{where}: {str(error).removeprefix(where + ': ')}"))
    except (ValueError, IndexError, KeyError) as error:
        return Entry(name or where, where=where, error=InputError(f"{where} is not a molecule of QM9: {error}"))
