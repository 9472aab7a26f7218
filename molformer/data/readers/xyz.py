"""XYZ and extended XYZ files, read by ASE."""

from collections.abc import Iterator
from pathlib import Path

from ase.io.extxyz import XYZError, read_xyz

from molformer.data.readers.entry import Entry, Format, ReadOptions, chosen_labels
from molformer.data.readers.files import open_text
from molformer.data.structure import Structure
from molformer.errors import InputError


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Frames of a file, one after another; a broken frame is the last, with an error. See `Format.read`."""
    frame = 0
    try:
        with open_text(path, options.max_bytes) as file:
            frames = read_xyz(file, index=slice(None))
            while True:
                where = f"{path}, frame {frame + 1}"
                atoms = next(frames)
                frame += 1
                name = where if frame > 1 else str(path)
                try:
                    structure = Structure(atoms.numbers, atoms.positions, name=where)
                except InputError as error:
                    yield Entry(name, where=where, error=error)
                else:
                    yield Entry(name, where=where, structure=structure)
    except StopIteration:
        if frame == 0:
            yield Entry(str(path), where=str(path), error=InputError(f"'{path}' is empty"))
    except InputError as error:
        yield Entry(str(path), where=str(path), error=error)
    except KeyError as error:
        message = f"'{path}', frame {frame + 1}: {error} is not a chemical symbol"
        yield Entry(str(path), where=str(path), error=InputError(message))
    except (XYZError, ValueError, IndexError, RuntimeError) as error:  # ASE raises any of these
        reason = str(error).removeprefix("ase.io.extxyz: ").replace("generator raised StopIteration", "it ends early")
        message = f"'{path}' is not a complete XYZ file: frame {frame + 1}: {' '.join(reason.split())}"
        yield Entry(str(path), where=str(path), error=InputError(message))


FORMAT = Format("XYZ", (".xyz", ".extxyz"), read, chosen_labels)
