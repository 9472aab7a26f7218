"""Who predicts tables of SMILES best: `python -m benchmarks.tables [--only METHOD …] [--sets NAME …] [--minutes M]`.

The methods of `tables_methods` on the fifteen sets of MoleculeACE and five of MoleculeNet, with one split for all. A
result is a line of the file `--results`; what is there is not measured again, so the contest can go on over many runs.
`--report` prints the tables. `--validation` reports on validation parts instead of test parts, to choose settings.

Methods with early stopping hold out a tenth of a training part of MoleculeACE for it, the others learn from all of it;
for tables that are split by scaffold nobody learns from the validation part. Each runs in a process of its own.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, tables_data
from benchmarks.tables_methods import METHODS, Problem, absent, solve, versions
from benchmarks.tables_report import report

DATA, RESULTS = machine.ROOT / "../shared/data", machine.ROOT / "build/tables.jsonl"


@dataclass(frozen=True)
class Task:
    """One result that is wanted."""

    set: str
    method: str
    seed: int
    part: str


def read_results(path: Path) -> list[dict[str, Any]]:
    """Lines of the file of results; one that was cut off by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            print(f"{path}: a line that is no JSON is left out: {line[:60]}", file=sys.stderr)
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line, also after one that was cut off."""
    with open(path, "a+b") as file:
        file.seek(max(0, file.tell() - 1))
        end = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(end + json.dumps(row, ensure_ascii=False).encode() + b"\n")


def wanted(methods: list[str], sets: list[str], seeds: int, part: str) -> Iterator[Task]:
    """All results, first those of one seed for every method."""
    for seed in range(seeds):
        for method in methods:
            for name in sets:
                yield Task(name, method, seed, part)


def measure(task: Task, data: Path, work: Path, chemprop: str) -> dict[str, Any]:
    """One result, in this process."""
    table, validation = tables_data.tables(data)[task.set], task.part == "validation"
    folder = work / "runs" / f"{task.set}-{task.method}-{task.seed}-{task.part}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["MOLFORMER_CACHE"] = str(folder / "cache")
    try:
        store, test = tables_data.read_table(table, data, folder / "store")
        split = tables_data.split_rows(table, store, test, task.seed, validation)
        problem = Problem(task.set, table, store, split, task.seed, work.absolute(), folder.absolute(), chemprop)
        answer, split, seconds = solve(task.method, problem, test, validation)
        labels = tables_data.label_values(table, store, split.test)
        return {
            **vars(task),
            "measure": table.measure,
            "value": tables_data.score(table, labels, answer.predictions),
            "cpu_seconds": round(seconds, 1),
            "molecules": len(split.train) + len(split.val) + len(split.test),
            "parts": [len(split.train), len(split.val), len(split.test)],
            "missing": answer.missing,
            "measured": time.strftime("%Y-%m-%d"),
            "machine": hardware(),
            "versions": {**versions(), **answer.versions},
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hardware() -> str:
    """The GPU where there is one and torch was used, else the processor."""
    if "torch" in sys.modules and (torch := sys.modules["torch"]).cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.environ.get('OMP_NUM_THREADS', os.cpu_count())} core(s) of {machine.processor()}"


def main() -> None:
    """Measure what is not there yet, or print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with moleculeace/, delaney.csv, …")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines; geometries are kept beside it")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="CHEMBL1862_Ki, …, ESOL, …; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each method")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no further one is begun")
    parser.add_argument(
        "--chemprop", default="", metavar="PYTHON", help="interpreter of an environment with chemprop 2"
    )
    parser.add_argument("--validation", action="store_true", help="validation parts alone")
    parser.add_argument("--again", action="store_true", help="measure anew; the report takes the last result of each")
    parser.add_argument("--report", action="store_true", help="print the tables")
    parser.add_argument("--here", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data, results, part = arguments.data, arguments.results, "validation" if arguments.validation else "test"
    work = results.with_suffix("")
    if arguments.here:
        name, method, seed, part = arguments.here
        print("\n" + json.dumps(measure(Task(name, method, int(seed), part), data, work, arguments.chemprop)))
        return
    known = tables_data.tables(data)
    sets = arguments.sets or list(known)
    if not known or (unknown := set(sets) - set(known)):
        parser.error(
            f"'{data}' has no table {min(unknown) if known else 'at all'}; it has: {', '.join(known) or 'none'}"
        )
    rows = read_results(results)
    if arguments.report:
        rows = [row for row in rows if row["method"] in arguments.only and row["set"] in sets]
        titles = {name: method.title for name, method in METHODS.items()}
        print(report(rows, titles, tables_data.published(data), part))
        return
    methods = []
    for name in arguments.only:
        if reason := absent(name, arguments.chemprop):
            print(f"{name}: skipped, {reason}")
        else:
            methods.append(name)
    done = (
        set() if arguments.again else {Task(*(row[key] for key in ("set", "method", "seed", "part"))) for row in rows}
    )
    run(
        [task for task in wanted(methods, sets, arguments.seeds, part) if task not in done],
        arguments,
        60 * arguments.minutes,
    )


def run(tasks: list[Task], arguments: argparse.Namespace, seconds: float) -> None:
    """Measure one after the other, each in a process of its own, and append the results."""
    start = time.monotonic()
    results: Path = arguments.results.absolute()
    results.parent.mkdir(parents=True, exist_ok=True)
    options = ["--data", str(arguments.data.absolute()), "--results", str(results), "--chemprop", arguments.chemprop]
    for number, task in enumerate(tasks):
        if time.monotonic() - start >= seconds:
            print(f"{len(tasks) - number} results are left; the same command goes on")
            return
        words = [task.set, task.method, str(task.seed), task.part]
        command = [sys.executable, "-m", "benchmarks.tables", *options, "--here", *words]
        try:
            row = machine.run(command, {"OMP_NUM_THREADS": str(arguments.threads)})
        except machine.ProgramFailed as error:
            print(f"{' '.join(words)}: failed, {error}", flush=True)
            continue
        append(results, row)
        print(
            f"{' '.join(words)}: {row['measure']} {row['value']:.4g}, {row['cpu_seconds']:.0f} CPU seconds", flush=True
        )


if __name__ == "__main__":
    main()
