"""The tables of `benchmarks.tables`, their splits and their error.

The fifteen sets of MoleculeACE (van Tilborg et al. 2022, doi 10.1021/acs.jcim.2c01073) have a test part of their own,
in the column `split`; the others, of MoleculeNet (Wu et al. 2018, doi 10.1039/c7sc02664a), are split by scaffold. A
table is held as a store of heavy atoms without geometry, which is all that splits, fingerprints and descriptors need.
Letters: n molecules, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molformer.data.splits import Split, SplitPolicy, make_split, random_split
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure

VALIDATION = 0.1
"""Share of a training part that is drawn as a validation part where the table has none."""


@dataclass(frozen=True)
class Table:
    """A file of molecules, and what is to be learnt.

    Args:
        file: in the folder of the data.
        targets: columns.
        binary: whether they are classes of 0 and 1; the error is then 100 minus the mean ROC-AUC in %.
        smiles_column: with the SMILES.
        own_split: whether the column `split` says which rows are the test part.
    """

    file: str
    targets: tuple[str, ...]
    binary: bool = False
    smiles_column: str = "smiles"
    own_split: bool = False

    @property
    def labels(self) -> list[Label]:
        """The targets as labels without a unit."""
        return [Label(name, "", "binary" if self.binary else "intensive") for name in self.targets]

    @property
    def measure(self) -> str:
        """What is reported."""
        return "ROC-AUC, %" if self.binary else "RMSE"


MOLECULENET = {
    "ESOL": Table("delaney.csv", ("logp",)),
    "FreeSolv": Table("freesolv.csv", ("freesolv",)),
    "Lipo": Table("lipo.csv", ("lipo",)),
    "BACE": Table("bace.csv", ("Class",), binary=True, smiles_column="mol"),
    "Tox21": Table(
        "tox21.csv",
        (
            *("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD"),
            *("NR-PPAR-gamma", "SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53"),
        ),
        binary=True,
    ),
}
"""Tables that are split by scaffold."""

ACE = "moleculeace"
PUBLISHED = "published_rmse.csv"


def tables(data: Path) -> dict[str, Table]:
    """The tables whose files are in a folder, by name."""
    sets = sorted((data / ACE).glob("CHEMBL*.csv"))
    found = {path.stem: Table(f"{ACE}/{path.name}", ("pX",), own_split=True) for path in sets}
    return found | {name: table for name, table in MOLECULENET.items() if (data / table.file).is_file()}


def published(data: Path) -> dict[str, dict[str, float]]:
    """RMSE by set and method that others published for MoleculeACE; empty where the file is absent."""
    import pandas

    path = data / ACE / PUBLISHED
    return pandas.read_csv(path, index_col=0).to_dict("index") if path.is_file() else {}


def read_table(table: Table, data: Path, path: Path) -> tuple[StructureStore, np.ndarray]:
    """The store of a table, written to `path`, and which of its rows are the test part (n,).

    Rows whose SMILES RDKit cannot read are left out, for every method.
    """
    import pandas
    from rdkit import Chem, rdBase

    from molformer.data.conformers import group_of

    frame = pandas.read_csv(data / table.file)
    structures, kept = [], []
    for index, row in enumerate(frame.to_dict("records")):
        smiles = str(row[table.smiles_column])
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(smiles)
        if mol is None or not mol.GetNumAtoms():
            continue
        kept.append(index)
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
        line = np.arange(len(numbers))[:, None] * np.array([[1.5, 0.0, 0.0]])
        labels = {name: np.array(float(row[name])) for name in table.targets}
        structures.append(Structure(numbers, line, smiles=smiles, group=group_of(smiles), labels=labels))
    test = (frame["split"] == "test").to_numpy()[kept] if table.own_split else np.zeros(len(kept), dtype=bool)
    return write_store(path, structures, table.labels), test


def split_rows(table: Table, store: StructureStore, test: np.ndarray, seed: int, validation: bool = False) -> Split:
    """Rows for training, for validation by the method, and of the part that is reported.

    With `validation`, that part is one of the training or validation part, and no row of the test part is in any.

    Args:
        table: see `Table`.
        store: of `read_table`.
        test: of `read_table`.
        seed: of a validation part that is drawn at random; molecules that differ in stereochemistry stay together.
        validation: report on validation parts, to choose settings.
    """
    if table.own_split:
        whole = Split(np.flatnonzero(~test), np.zeros(0, dtype=np.int64), np.flatnonzero(test))
    else:
        whole = make_split(store, SplitPolicy("scaffold"))
    train, val, held = whole.train, whole.val, whole.test
    if validation:
        train, held = (train, val) if len(val) else _drawn(store, train, seed)
        val = val[:0]
    if not len(val):
        train, val = _drawn(store, train, seed)
    return Split(train, val, held, "file")


def joined(table: Table, split: Split, validation: bool) -> Split:
    """The split for methods without early stopping: a validation part that was drawn is for training too."""
    if not (table.own_split or validation):
        return split
    return Split(np.sort(np.concatenate([split.train, split.val])), split.val[:0], split.test, "file")


def _drawn(store: StructureStore, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = random_split(store.groups[rows], (1 - VALIDATION, VALIDATION, 0.0), seed)
    return rows[drawn.train], rows[drawn.val]


def score(table: Table, labels: np.ndarray, predictions: np.ndarray) -> float:
    """RMSE, or the mean over tasks of the ROC-AUC in %.

    Args:
        table: see `Table`.
        labels: (n, T), NaN where missing.
        predictions: (n, T); of classes anything that grows with the probability.
    """
    from sklearn.metrics import roc_auc_score, root_mean_squared_error

    found: list[float] = []
    for truth, guess in zip(labels.T, predictions.T, strict=True):
        there = np.isfinite(truth)
        if not table.binary:
            found.append(root_mean_squared_error(truth[there], guess[there]))
        elif len(np.unique(truth[there])) == 2:
            found.append(100 * roc_auc_score(truth[there], guess[there]))
    return float(np.mean(found))


def label_values(table: Table, store: StructureStore, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Labels of some rows (n, T), NaN where missing."""
    return np.stack([np.asarray(store.column(name), dtype=np.float64)[rows] for name in table.targets], axis=1)
