"""The methods of `benchmarks.tables`: each learns from the training part of a problem and predicts its test part.

Imports are inside them, so that a method pays for its own alone. Letters: n molecules, T targets, D descriptors.
"""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, ProgramFailed
from benchmarks.tables_data import Table, joined, label_values, split_rows
from molformer.data.splits import Split, SplitPolicy, write_split
from molformer.data.store import StructureStore
from molformer.version import __version__

BITS, TREES, SVM_C = 2048, 500, 10.0


@dataclass(frozen=True)
class Problem:
    """What a method is given.

    Args:
        name: of the table.
        table: see `Table`.
        store: molecules and labels, without geometries.
        split: rows for training, validation and test.
        seed: of everything random.
        work: folder that is kept, for geometries.
        folder: empty folder, deleted afterwards.
        chemprop: Python interpreter with the package.
    """

    name: str
    table: Table
    store: StructureStore
    split: Split
    seed: int
    work: Path
    folder: Path
    chemprop: str = ""


@dataclass(frozen=True)
class Answer:
    """What a method gives.

    Args:
        predictions: of the test part (n, T).
        earlier: seconds of the processor that were spent in an earlier run, for geometries.
        missing: molecules of the test part that got the mean of the training part, since they have no geometry.
        versions: of packages that are not in this environment.
    """

    predictions: np.ndarray
    earlier: float = 0.0
    missing: int = 0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method.

    Args:
        title: in the report.
        predict: see `Problem` and `Answer`.
        stops: whether it needs a validation part.
    """

    title: str
    predict: Callable[[Problem], Answer]
    stops: bool = False


def cpu_seconds() -> float:
    """Seconds of the processor of this process and of those that it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def fingerprints(problem: Problem) -> np.ndarray:
    """Counts of ECFP4 fragments of all molecules (n, BITS)."""
    from rdkit import Chem
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=2, fpSize=BITS)
    molecules = (Chem.MolFromSmiles(problem.store[row].smiles) for row in range(len(problem.store)))
    return np.stack([generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules]).astype(np.float32)


def descriptors(problem: Problem, choice: str, readout: str = "mlp") -> np.ndarray:
    """Descriptors of all molecules (n, D), by the keys `descriptors` and `descriptor_readout` of a config."""
    from molformer.data.descriptor_table import chosen
    from molformer.data.descriptors import descriptors_of

    wanted = chosen(choice, readout)  # type: ignore[arg-type]
    return np.stack([descriptors_of(wanted, problem.store[row].smiles) for row in range(len(problem.store))])


def _fit(problem: Problem, inputs: np.ndarray, make: Callable[[], Any]) -> Answer:
    """A model of scikit-learn for each target."""
    train, test = problem.split.train, problem.split.test
    columns = []
    for labels in label_values(problem.table, problem.store, train).T:
        there = np.isfinite(labels)
        model = make().fit(inputs[train[there]], labels[there])
        if not problem.table.binary:
            columns.append(model.predict(inputs[test]))
        elif hasattr(model, "decision_function"):
            columns.append(model.decision_function(inputs[test]))
        else:
            columns.append(model.predict_proba(inputs[test])[:, 1])
    return Answer(np.stack(columns, axis=1))


def forest(problem: Problem) -> Answer:
    """Random forest on counts of ECFP4 fragments, as `molformer train` prints it."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind, share = (RandomForestClassifier, "sqrt") if problem.table.binary else (RandomForestRegressor, 0.3)
    return _fit(problem, fingerprints(problem), partial(kind, TREES, max_features=share, random_state=problem.seed))


def svm(problem: Problem) -> Answer:
    """Support vector machine on binary ECFP4, which was the best method of MoleculeACE."""
    from sklearn.svm import SVC, SVR

    return _fit(problem, fingerprints(problem).clip(max=1), partial(SVC if problem.table.binary else SVR, C=SVM_C))


def boosting(problem: Problem) -> Answer:
    """Gradient boosting on RDKit's descriptors of the molecular graph."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if problem.table.binary else HistGradientBoostingRegressor
    return _fit(problem, descriptors(problem, "rdkit"), partial(kind, random_state=problem.seed))


def kernel(problem: Problem) -> Answer:
    """The Gaussian process of `descriptor_readout: gaussian_process` without a network."""
    from molformer.data.datamodule import MoleculeDataModule
    from molformer.data.descriptor_table import chosen
    from molformer.data.statistics import baseline_values
    from molformer.training.gaussian_process import fit_gaussian_process

    write_split(problem.split, problem.folder / "split.json")
    policy = SplitPolicy("file", file=str(problem.folder / "split.json"))
    data = MoleculeDataModule(problem.store, problem.table.targets, policy)
    wanted, statistics = chosen("both", "gaussian_process"), data.statistics()
    data.inputs = descriptors(problem, "both", "gaussian_process")
    values = fit_gaussian_process(wanted, data, statistics, problem.seed)[1][data.split.test].astype(np.float64)
    for column, label in zip(values.T, data.targets, strict=True):
        if not label.is_class:
            found = statistics[label.name]
            column *= found.scale
            column += baseline_values(data.store, data.split.test, label, found.references)
    return Answer(values)


def molformer(problem: Problem, overrides: tuple[str, ...] = ()) -> Answer:
    """`molformer train` with the config for tables or classes."""
    from molformer.data.conformers import ConformerPolicy
    from molformer.data.importing import open_data
    from molformer.data.readers import ReadOptions
    from molformer.data.report import record_path
    from molformer.training.arguments import read_configs
    from molformer.training.run import train

    table, run = problem.table, problem.folder / "run"
    config = ROOT / "configs" / ("classification.yaml" if table.binary else "table.yaml")
    source, split = problem.work / "files" / f"{problem.name}.csv", problem.folder / "split.json"
    targets = [f"{label.name}={label.kind}" for label in table.labels]
    words = ["--data", str(source), "--smiles_column", "smiles", "--targets", json.dumps(targets), "--salts", "keep"]
    words += ["--run", str(run), "--split_by", "file", "--split_file", str(split), "--seed", str(problem.seed)]
    words += ["--baselines", "false", "--wandb", "off", *overrides]
    training = read_configs(str(config), words)[1]
    _write_csv(problem, source)

    cache = problem.work / "geometries" / f"{problem.name}-{training.conformers}"
    os.environ["MOLFORMER_CACHE"] = str(cache)
    known, start = cache / "seconds.json", cpu_seconds()
    if not known.is_file():
        shutil.rmtree(cache, ignore_errors=True)
    shutil.rmtree(cache / "descriptors", ignore_errors=True)  # each run makes its own, which is timed
    options = ReadOptions(smiles_column="smiles", censored=training.censored)
    store = open_data(
        str(source),
        training.targets,
        options,
        ConformerPolicy(salts="keep"),
        os.cpu_count() or 1,
        conformers=training.conformers,
    )
    earlier = 0.0
    if known.is_file():
        earlier = json.loads(known.read_text()) - (cpu_seconds() - start)
    else:
        known.write_text(json.dumps(cpu_seconds() - start))
    rows = np.delete(np.arange(len(problem.store)), _rejected(record_path(store.path)))
    parts = (
        np.flatnonzero(np.isin(rows, part)) for part in (problem.split.train, problem.split.val, problem.split.test)
    )
    write_split(Split(*parts), split)
    train(*read_configs(str(config), words))
    return _of_run(problem, run / "test_predictions.csv", rows, earlier)


def _write_csv(problem: Problem, path: Path) -> None:
    """All molecules of a problem, once, since geometries are known by the time at which the file was written."""
    import pandas

    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(problem.store))
    frame = pandas.DataFrame(label_values(problem.table, problem.store, rows), columns=problem.table.targets)
    frame.insert(0, "smiles", [problem.store[row].smiles for row in rows])
    frame.to_csv(path.with_suffix(".part"), index=False)
    path.with_suffix(".part").replace(path)


def _rejected(record: Path) -> np.ndarray:
    import pandas

    return pandas.read_csv(record)["row"].to_numpy() - 1 if record.is_file() else np.zeros(0, dtype=np.int64)


def _of_run(problem: Problem, file: Path, rows: np.ndarray, earlier: float) -> Answer:
    """Predictions of a run for the whole test part."""
    import pandas

    frame = pandas.read_csv(file)
    known = label_values(problem.table, problem.store, problem.split.train)
    found = np.tile(np.nanmean(known, axis=0), (len(problem.split.test), 1))
    places = np.searchsorted(problem.split.test, rows[frame["index"].to_numpy()])
    found[places] = frame[[f"{name} predicted" for name in problem.table.targets]].to_numpy()
    return Answer(found, earlier, len(found) - len(places))


def chemprop(problem: Problem, options: tuple[str, ...] = ()) -> Answer:
    """The command of chemprop 2 (Heid et al. 2024, doi 10.1021/acs.jcim.3c01250) with its default settings."""
    import pandas

    table, split, file, out = problem.table, problem.split, problem.folder / "data.csv", problem.folder / "run"
    rows = np.concatenate([split.train, split.val, split.test])
    frame = pandas.DataFrame(label_values(table, problem.store, rows), columns=table.targets)
    frame.insert(0, "smiles", [problem.store[int(row)].smiles for row in rows])
    frame["split"] = np.repeat(["train", "val", "test"], [len(split.train), len(split.val), len(split.test)])
    frame.to_csv(file, index=False)
    kind, seed = "classification" if table.binary else "regression", str(problem.seed)
    command = [str(Path(problem.chemprop).with_name("chemprop")), "train", "-i", str(file), "-o", str(out)]
    command += ["-s", "smiles", "--target-columns", *table.targets, "-t", kind, "--splits-column", "split"]
    command += ["--pytorch-seed", seed, "--data-seed", seed, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=problem.folder)
    if done.returncode:
        raise ProgramFailed((done.stderr.strip().splitlines() or ["chemprop gave no reason"])[-1])
    found = pandas.read_csv(out / "model_0" / "test_predictions.csv")
    asked = "from importlib.metadata import version as v; print(v('chemprop'), v('torch'))"
    names = subprocess.run([problem.chemprop, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    return Answer(
        found[list(table.targets)].to_numpy(), versions=dict(zip(("chemprop", "its torch"), names, strict=True))
    )


METHODS = {
    "scratch": Method(
        "network alone",
        partial(molformer, overrides=("--initial", "", "--descriptors", "none", "--descriptor_readout", "mlp")),
        stops=True,
    ),
    "kernel": Method("Gaussian process alone", kernel),
    "new-weights": Method("molformer from new weights", partial(molformer, overrides=("--initial", "")), stops=True),
    "default": Method("molformer, default", molformer, stops=True),
    "ensemble": Method("molformer, ensemble of 3", partial(molformer, overrides=("--ensemble", "3")), stops=True),
    "forest": Method("random forest, ECFP4", forest),
    "svm": Method("SVM, ECFP4", svm),
    "boosting": Method("gradient boosting, descriptors", boosting),
    "chemprop": Method("chemprop", chemprop, stops=True),
    "chemprop-descriptors": Method(
        "chemprop with descriptors", partial(chemprop, options=("--molecule-featurizers", "rdkit_2d")), stops=True
    ),
}
"""By name, in the order of the report."""


def absent(name: str, chemprop: str) -> str:
    """Why a method cannot be measured here; empty if it can."""
    if name.startswith("chemprop") and not (chemprop and Path(chemprop).with_name("chemprop").is_file()):
        return "name the Python interpreter of an environment with chemprop 2 by --chemprop"
    return ""


def solve(name: str, problem: Problem, test: np.ndarray, validation: bool) -> tuple[Answer, Split, float]:
    """The answer of a method, the split that it was given, and the seconds of the processor that it took."""
    method = METHODS[name]
    split = split_rows(problem.table, problem.store, test, problem.seed, validation)
    split = split if method.stops else joined(problem.table, split, validation)
    start = cpu_seconds()
    answer = method.predict(replace(problem, split=split))
    return answer, split, cpu_seconds() - start + answer.earlier


def versions() -> dict[str, str]:
    """Of the packages that the methods use."""
    return {"molformer": __version__, **{name: version(name) for name in ("torch", "rdkit", "scikit-learn")}}
