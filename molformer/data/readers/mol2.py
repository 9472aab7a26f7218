"""MOL2 files, read by RDKit record by record.

A record whose atoms all have z = 0 is taken for a drawing, unless it is a planar molecule with all hydrogens. Formal
charges follow from the atom types; where a record has partial charges too, their sum must agree.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from rdkit import Chem

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.molfile import entry_of, parsed, read_records
from molformer.errors import InputError

_MOLECULE = "@<TRIPOS>MOLECULE"
_CHARGE_DIFFERENCE = 0.5  # e; partial charges are rounded and rarely sum to a whole number


def split(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records, which begin at a line `@<TRIPOS>MOLECULE`; comments before the first are skipped."""
    record: list[bytes] = []
    started = False
    for line in lines:
        if line.removeprefix(b"\xef\xbb\xbf").startswith(_MOLECULE.encode()):
            if started:
                yield record
            record, started = [], True
        record.append(line)
        if not started and line.strip() and not line.startswith(b"#"):
            started = True  # not a comment: the first record is damaged
    if started:
        yield record


def parse(lines: list[str], where: str, options: ReadOptions) -> Entry:
    """The entry of one record.

    Raises:
        InputError: it cannot be read, see also `entry_of`; MOL2 records have no labels.
    """
    if not lines[0].startswith(_MOLECULE):
        raise InputError(f"{where} is no MOL2 record: it must begin with {_MOLECULE}")
    _check_counts(lines, where)
    mol = parsed(Chem.MolFromMol2Block, lines)
    if mol is None:
        raise InputError(f"{where} is no MOL2 record: a line of its atoms or bonds cannot be read")
    for atom in mol.GetAtoms():  # the format has no radicals: open valences are hydrogens that are not there
        atom.SetNoImplicit(False)
        atom.SetNumRadicalElectrons(0)
    solid = mol.GetNumConformers() > 0 and bool((mol.GetConformer().GetPositions()[:, 2] != 0).any())
    entry = entry_of(mol, where, lines[1].strip(), solid or None, add_hydrogens=options.add_hydrogens)
    _check_charge(mol, lines, where)
    return entry


def _section(lines: list[str], name: str) -> list[str]:
    """Lines of a section that are neither blank nor comments."""
    starts = [index for index, line in enumerate(lines) if line.startswith(f"@<TRIPOS>{name}")]
    if not starts:
        return []
    after = lines[starts[0] + 1 :]
    end = next((index for index, line in enumerate(after) if line.startswith("@<TRIPOS>")), len(after))
    return [line for line in after[:end] if line.strip() and not line.startswith("#")]


def _check_counts(lines: list[str], where: str) -> None:
    """Compare the counts with the lines; RDKit would read as many as the counts say."""
    words = lines[2].split() if len(lines) > 2 else []
    try:
        atoms, bonds = int(words[0]), int(words[1]) if len(words) > 1 else 0
    except (ValueError, IndexError):
        raise InputError(f"{where} is no MOL2 record: line 3 must have the numbers of atoms and bonds") from None
    there = len(_section(lines, "ATOM")), len(_section(lines, "BOND"))
    if there != (atoms, bonds):
        raise InputError(
            f"{where} is no complete MOL2 record: it says {atoms} atoms and {bonds} bonds and has {there[0]} and "
            f"{there[1]}"
        )


def _check_charge(mol: Chem.Mol, lines: list[str], where: str) -> None:
    """Compare the formal charge with the sum of the partial charges."""
    if len(lines) > 4 and lines[4].strip() == "NO_CHARGES":
        return
    fields = [line.split() for line in _section(lines, "ATOM")]
    try:
        partial = [float(words[8]) for words in fields]
    except (IndexError, ValueError):
        return  # the column is optional
    formal = Chem.GetFormalCharge(mol)
    if any(partial) and not abs(sum(partial) - formal) < _CHARGE_DIFFERENCE:
        raise InputError(
            f"{where}: its partial charges sum to {sum(partial):.2f}, its atom types to a charge of {formal}: correct "
            "one of them, or write NO_CHARGES"
        )


FORMAT = Format(partial(read_records, split=split, parse=parse))
