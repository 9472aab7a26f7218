"""From what a user has (SMILES, XYZ, a file of SMILES, a Structure) to structures.

Every input ends in an `Entry`: a structure, or the error that says why there is none. Nothing is dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from molformer.data.structure import Structure
from molformer.errors import InputError, MolformerError

SUFFIXES = (".xyz", ".extxyz", ".smi", ".smiles", ".txt")
"""Endings of the files that can be read; anything else is taken for a SMILES."""


@dataclass(frozen=True)
class Entry:
    """One input.

    Args:
        name: the SMILES, or the file and row.
        structure: the molecule, if it could be read.
        error: why not.
    """

    name: str
    structure: Structure | None = None
    error: MolformerError | None = None


def read_input(source: "str | Path | Structure") -> Iterator[Entry]:
    """Entries of one input: a SMILES and a structure have one, a file one for each molecule.

    SMILES are embedded in 3-D with the default `ConformerPolicy`.

    Example:
        >>> [entry.structure.formula for entry in read_input("CCO")]
        ['C2H6O']
    """
    if isinstance(source, Structure):
        yield Entry(source.where or source.formula, source)
    elif is_file(source):
        yield from read_file(Path(source))
    else:
        yield _from_smiles(str(source), str(source))


def is_file(source: str | Path) -> bool:
    """Whether an input names a file rather than being a SMILES."""
    return isinstance(source, Path) or Path(source).suffix.lower() in SUFFIXES


def read_file(path: Path) -> Iterator[Entry]:
    """Entries of a file of molecules; a file that cannot be read at all is one entry with an error."""
    try:
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"'{path}': files of type '{path.suffix}' cannot be read; use {', '.join(SUFFIXES)}")
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise InputError(f"'{path}' is empty")
    except UnicodeDecodeError:
        yield Entry(str(path), error=InputError(f"'{path}' is not a text file"))
    except OSError as error:
        yield Entry(str(path), error=InputError(f"cannot read '{path}': {error.strerror or error}"))
    except InputError as error:
        yield Entry(str(path), error=error)
    else:
        yield from (_read_xyz if path.suffix.lower() in (".xyz", ".extxyz") else _read_smiles)(path, text)


def _read_smiles(path: Path, text: str) -> Iterator[Entry]:
    """One SMILES a line, with a title after a blank if there is one; lines that start with # are comments."""
    for row, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            smiles, *title = line.split(maxsplit=1)
            yield _from_smiles(smiles, title[0].strip() if title else smiles, f"{path}, line {row}")


def _from_smiles(smiles: str, name: str, where: str = "") -> Entry:
    from molformer.data.conformers import embed_smiles

    try:
        return Entry(name, embed_smiles(smiles, name=where))
    except MolformerError as error:
        return Entry(name, error=error)


def _read_xyz(path: Path, text: str) -> Iterator[Entry]:
    """Frames of a plain or extended XYZ file, read by ASE; a broken frame ends the file with an error."""
    import io

    from ase.io.extxyz import XYZError, read_xyz

    frames = read_xyz(io.StringIO(text), index=slice(None))
    frame = 0
    while True:
        frame += 1
        where = f"{path}, frame {frame}"
        try:
            atoms = next(frames)
            structure = Structure(atoms.numbers, atoms.positions, name=where)
        except StopIteration:
            return
        except InputError as error:
            yield Entry(where, error=error)
        except KeyError as error:
            yield Entry(str(path), error=InputError(f"'{path}': {error} is not a chemical symbol"))
            return
        except (XYZError, ValueError, IndexError, RuntimeError) as error:  # ASE raises any of these
            reason = (
                str(error).removeprefix("ase.io.extxyz: ").replace("generator raised StopIteration", "it ends early")
            )
            yield Entry(str(path), error=InputError(f"'{path}' is not a complete XYZ file: {reason}"))
            return
        else:
            yield Entry(where if frame > 1 else str(path), structure)
