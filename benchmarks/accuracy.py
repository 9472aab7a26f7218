"""Errors on public data sets beside baselines and published figures.

`python -m benchmarks.accuracy [--data DIR] [--runs DIR] [--row NAME] [--minutes M]` trains what is not there yet, one
process a row, and prints the table; `--table` prints it from what is there. DIR of `--data` holds the files that
`accuracy_rows.py` names; paths are relative to the repository. A row leaves `RUNS/NAME.json`, its run folder
`RUNS/NAME` and its store in `RUNS/stores`; the commands below the table do the same without this script.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy_rows import ROWS, Row
from benchmarks.baselines import BASELINES
from benchmarks.machine import ROOT, processor
from benchmarks.measures import interval

SEED = 0  # of the turns
DATA, RUNS = Path("../shared/data"), Path("runs/accuracy")


def import_command(name: str, row: Row, data: Path, runs: Path) -> list[str]:
    """Arguments of `molformer` that make the store of a row."""
    targets = [word for target in row.targets for word in ("--target", target)]
    column = ["--smiles-column", row.smiles_column] if row.smiles_column else []
    return ["data", "import", str(data / row.file), "-o", str(runs / "stores" / name), *targets, *column]


def train_command(name: str, row: Row, runs: Path, extra: Iterable[str] = ()) -> list[str]:
    """Arguments of `molformer` that train the model of a row."""
    store, run = runs / "stores" / f"{name}.safetensors", runs / name
    return ["train", f"configs/{row.config}", "--data", str(store), *row.overrides, "--run", str(run), *extra]


def run_row(name: str, data: Path, runs: Path, minutes: float) -> None:
    """Import, train, test, and keep the result."""
    from rich.console import Console

    from molformer.training.arguments import read_configs, read_run
    from molformer.training.callbacks import LAST
    from molformer.training.progress import RunProgress
    from molformer.training.run import train

    row = ROWS[name]
    if not (data / row.file).is_file():
        print(f"{name}: not measured, there is no {data / row.file}")
        return
    make_store = import_command(name, row, data, runs)
    if not (runs / "stores" / f"{name}.safetensors").is_file():
        subprocess.run([sys.executable, "-m", "molformer", *make_store], check=True)
    begun = (runs / name / LAST).is_file()  # by a run that was cut off
    if begun:
        encoder, training = read_run(str(runs / name))
    else:
        shutil.rmtree(runs / name, ignore_errors=True)
        extra = ["--epochs", str(_epochs_in(minutes, name, row, runs))] if minutes else []
        _, config, *words = train_command(name, row, runs, extra)
        encoder, training = read_configs(config, [*words, "--wandb", "off"])
    done = train(encoder, training, RunProgress(Console()), resume=begun)
    result = {
        "row": name,
        "epochs": done.epochs,
        "planned": training.epochs,
        "seconds": round(done.seconds, 1),
        "measured": time.strftime("%Y-%m-%d"),
        **machine(),
        **evaluate(row, done.folder),
    }
    (runs / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _epochs_in(minutes: float, name: str, row: Row, runs: Path) -> int:
    """Epochs that fit into a time, from a run of one."""
    from molformer.training.arguments import read_configs
    from molformer.training.run import train

    trial = runs / f"{name}.trial"
    shutil.rmtree(trial, ignore_errors=True)
    words = [*train_command(name, row, runs)[2:], "--run", str(trial), "--epochs", "1", "--wandb", "off"]
    seconds = train(*read_configs(f"configs/{row.config}", words)).seconds
    shutil.rmtree(trial)
    return max(1, round(60 * minutes / seconds))


def evaluate(row: Row, run: Path) -> dict[str, Any]:
    """Sizes of the parts, parameters, and every measure of model and baselines on the test part."""
    from molformer.models.property import load_model
    from molformer.training.arguments import read_configs
    from molformer.training.run import data_module
    from molformer.training.target_errors import predict_batches

    _, training = read_configs(str(run / "config.yaml"))
    model = load_model(run)
    data = data_module(training, run / "split.json", implicit=model.config.hydrogens == "implicit")
    predicted = {turned: predict_batches(model, _turned(data.test_dataloader(), turned)) for turned in _poses(row)}
    baseline = cache(lambda name, target: BASELINES[name](data, target))
    values = []
    for measure in row.measures:
        target = data.store.label(measure.target)
        found = predicted[measure.turned]
        prediction, label = found.values[measure.target]
        value, low, high = interval(measure, prediction, label, found.sizes)
        entry: dict[str, Any] = {"measure": measure.name, "value": value, "low": low, "high": high, "baselines": {}}
        for name in row.baselines:
            if not (target.kind == "forces" and name == "composition"):
                entry["baselines"][name] = interval(measure, baseline(name, target), label, found.sizes)[0]
        values.append(entry)
    parts = {part: len(getattr(data.split, part)) for part in ("train", "val", "test")}
    return {"parts": parts, "parameters": sum(p.numel() for p in model.parameters()), "values": values}


def _poses(row: Row) -> set[bool]:
    return {measure.turned for measure in row.measures}


def _turned(batches: Iterable[Any], turned: bool) -> Iterator[Any]:
    """Batches as they are, or with every structure randomly rotated."""
    import torch
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(SEED)
    for graph in batches:
        if not turned:
            yield graph
            continue
        rotations = torch.from_numpy(Rotation.random(graph.num_graphs, rng).as_matrix()).to(graph.pos.dtype)
        yield replace(graph, pos=torch.einsum("nij,nj->ni", rotations[graph.batch], graph.pos))


def machine() -> dict[str, Any]:
    """What the run ran on."""
    import torch

    from molformer.version import __version__

    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} core(s) of {processor()}"
    )
    return {"machine": device, "torch": torch.__version__, "molformer": __version__}


def print_table(runs: Path, names: Iterable[str]) -> None:
    """The table of the page of accuracy, its notes and its commands, from the results that are there."""
    results = [json.loads((runs / f"{name}.json").read_text()) for name in names if (runs / f"{name}.json").is_file()]
    print("| data | train / val / test | measure | molformer [95 %] | baselines | published | parameters | time |")
    print("|---|---|---|---|---|---|---|---|")
    notes = list(dict.fromkeys(ROWS[result["row"]].note for result in results))
    for result in results:
        row = ROWS[result["row"]]
        number = notes.index(row.note) + 1
        for place, (measure, published) in enumerate(row.measures.items()):
            entry = next((entry for entry in result["values"] if entry["measure"] == measure.name), None)
            if entry is None:
                continue
            first = [f"{row.title} ({number})", " / ".join(f"{size:,}" for size in result["parts"].values())]
            last = [f"{result['parameters']:,}", f"{result['seconds'] / 60:.1f} min, {result['epochs']} epochs"]
            value = f"**{_short(entry['value'])}** [{_short(entry['low'])}, {_short(entry['high'])}]"
            beside = ", ".join(f"{name} {_short(value)}" for name, value in entry["baselines"].items())
            cells = [*(first if place == 0 else ["", ""]), measure.name, value, beside, published]
            print(f"| {' | '.join([*cells, *(last if place == 0 else ['', ''])])} |")
    print()
    for number, note in enumerate(notes, start=1):
        print(f"({number}) {note or 'no published figures'}.")
    for line in sorted({f"{result['machine']}, torch {result['torch']}" for result in results}):
        print(f"\nMeasured on {line}: " + ", ".join(r["row"] for r in results if line.startswith(r["machine"])))
    print("\n```sh")
    for result in results:
        name, row = result["row"], ROWS[result["row"]]
        epochs = ["--epochs", str(result["planned"])]
        for words in (import_command(name, row, DATA, RUNS), train_command(name, row, RUNS, epochs)):
            print(shlex.join(["molformer", *words]))
    print("```")


def _short(value: float) -> str:
    """Three digits that count, without an exponent."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.{max(0, 2 - int(np.floor(np.log10(abs(value)))))}f}" if value else "0"


def main() -> None:
    """Train what is asked for, a process a row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--row", choices=ROWS, action="append", help="one row; may be given again")
    parser.add_argument("--minutes", type=float, default=0.0, help="train each row for about so long")
    parser.add_argument("--again", action="store_true", help="train what has a result already")
    parser.add_argument("--table", action="store_true", help="print the results that are there")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.chdir(ROOT)  # what paths and the printed commands are relative to
    if arguments.here:
        run_row(arguments.row[0], arguments.data, arguments.runs, arguments.minutes)
        return
    for name in arguments.row or ROWS:
        kept = arguments.runs / f"{name}.json"
        if arguments.again and not arguments.table:
            kept.unlink(missing_ok=True)
            shutil.rmtree(arguments.runs / name, ignore_errors=True)
        if not arguments.table and not kept.is_file():
            command = [
                sys.executable,
                "-m",
                "benchmarks.accuracy",
                "--here",
                "--row",
                name,
                "--minutes",
                str(arguments.minutes),
            ]
            done = subprocess.run([*command, "--data", str(arguments.data), "--runs", str(arguments.runs)], check=False)
            if done.returncode:
                print(f"{name}: failed, see above")
    print_table(arguments.runs, arguments.row or ROWS)


if __name__ == "__main__":
    main()
