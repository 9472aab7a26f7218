"""Builds `molecules.smi`: small organic molecules, grown from scaffolds and substituents, not taken from a data set.

A grown molecule is a scaffold in which one to three hydrogens, drawn at random, were replaced by substituents.
It is kept when no unwanted pattern is in it and its size still has room. Molecules that every chemist knows are
always in. The four tables in `fragments/` hold all the chemistry; this file only draws from them.

    python data/enumerate_molecules.py
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rdkit import Chem
from rich.progress import track

HERE = Path(__file__).parent
ELEMENTS = frozenset({"H", "C", "N", "O", "F", "S", "Cl"})
MAX_HEAVY_ATOMS = 12
ROOM = {1: 10, 2: 20, 3: 40, 4: 110, 5: 240, 6: 450, 7: 620, 8: 800, 9: 930, 10: 990, 11: 960, 12: 830}
"""Molecules of each number of heavy atoms, at most; the smallest sizes have fewer than there is room for."""
STEPS = {1: 4, 2: 5, 3: 1.5}
"""Hydrogens replaced in one molecule, and how often relative to one another."""


@dataclass(frozen=True)
class Tables:
    """What molecules are made of.

    Args:
        well_known: SMILES of the molecules that are always in.
        scaffolds: where growth starts, with weights.
        substituents: what replaces hydrogen, with weights; atom 0 is the dummy that stands for the carrier.
        unwanted: patterns that no grown molecule has, by their reason.
    """

    well_known: list[str]
    scaffolds: dict[Chem.Mol, float]
    substituents: dict[Chem.Mol, float]
    unwanted: dict[str, Chem.Mol]


def read_tables(folder: Path = HERE / "fragments") -> Tables:
    """The tables of the folder `fragments`."""
    return Tables(
        well_known=[smiles for smiles, _ in _rows(folder / "well_known.smi")],
        scaffolds=_weighted(folder / "scaffolds.smi"),
        substituents=_weighted(folder / "substituents.smi"),
        unwanted={reason: Chem.MolFromSmarts(smarts) for smarts, reason in _rows(folder / "unwanted.smarts")},
    )


def enumerate_molecules(tables: Tables, seed: int, draws: int) -> list[str]:
    """Canonical SMILES of the whole set, by number of heavy atoms, then by alphabet.

    Args:
        tables: what molecules are made of.
        seed: the same seed gives the same molecules.
        draws: molecules grown, most of them in vain: repeated, unwanted or without room.
    """
    rng = random.Random(seed)
    kept = {size: set[str]() for size in ROOM}
    for smiles in tables.well_known:
        mol = Chem.MolFromSmiles(smiles)
        kept[mol.GetNumHeavyAtoms()].add(Chem.MolToSmiles(mol))
    for _ in track(range(draws), "growing molecules"):
        mol = grow(tables, rng)
        size = mol.GetNumHeavyAtoms()
        if len(kept.get(size, ())) < ROOM.get(size, 0) and fault(mol, tables.unwanted) is None:
            kept[size].add(Chem.MolToSmiles(mol))
    return [smiles for size in sorted(kept) for smiles in sorted(kept[size])]


def grow(tables: Tables, rng: random.Random) -> Chem.Mol:
    """One random molecule, which may be unwanted or too large."""
    (mol,) = rng.choices(list(tables.scaffolds), list(tables.scaffolds.values()))
    (steps,) = rng.choices(list(STEPS), list(STEPS.values()))
    for _ in range(steps):
        (substituent,) = rng.choices(list(tables.substituents), list(tables.substituents.values()))
        mol = attach(mol, substituent, rng) or mol
    return mol


def attach(mol: Chem.Mol, substituent: Chem.Mol, rng: random.Random) -> Chem.Mol | None:
    """Replace hydrogens of one random atom by a substituent; None when no atom has enough of them.

    Args:
        mol: what is substituted.
        substituent: its atom 0 is a dummy; the bond from there, single or double, is the new bond.
        rng: draws the atom; atoms with more hydrogens are not preferred.
    """
    bond = substituent.GetBondWithIdx(0).GetBondType()
    hydrogens = int(bond)  # one for a single bond, two for a double bond
    sites = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() >= hydrogens]
    if not sites:
        return None
    site = rng.choice(sites)
    dummy = mol.GetNumAtoms()
    grown = Chem.RWMol(Chem.CombineMols(mol, substituent))
    grown.AddBond(site, dummy + 1, bond)
    grown.RemoveAtom(dummy)
    atom = grown.GetAtomWithIdx(site)
    atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - hydrogens))  # written out only in [nH]
    Chem.SanitizeMol(grown)
    return grown.GetMol()


def fault(mol: Chem.Mol, unwanted: dict[str, Chem.Mol]) -> str | None:
    """Why a grown molecule is not taken, or None."""
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    if mol.GetNumHeavyAtoms() > MAX_HEAVY_ATOMS:
        return "too large"
    if not ELEMENTS.issuperset(symbols):
        return "an element outside the set"
    if sum(symbol in ("N", "O", "S") for symbol in symbols) > symbols.count("C") + 1:
        return "too few carbon atoms"
    if symbols.count("Cl") > 3 or symbols.count("F") > 5 or symbols.count("S") > 2:
        return "too many of one element"
    return next((reason for reason, pattern in unwanted.items() if mol.HasSubstructMatch(pattern)), None)


def _rows(path: Path) -> list[list[str]]:
    """First word and rest of each line; `#` begins a comment line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def _weighted(path: Path) -> dict[Chem.Mol, float]:
    return {Chem.MolFromSmiles(smiles): float(rest.split()[0]) for smiles, rest in _rows(path)}


def main(
    output: Annotated[Path, typer.Option(help="The list to be written.")] = HERE / "molecules.smi",
    seed: Annotated[int, typer.Option(help="The same seed gives the same list.")] = 7,
    draws: Annotated[int, typer.Option(help="Molecules grown.")] = 100_000,
) -> None:
    """Write the list of molecules."""
    molecules = enumerate_molecules(read_tables(), seed, draws)
    output.write_text("\n".join(molecules) + "\n", encoding="utf-8")
    print(f"{len(molecules)} molecules written to {output}")


if __name__ == "__main__":
    typer.run(main)
