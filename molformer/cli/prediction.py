"""`molformer predict`, `embed`, `models` and `check`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from molformer.cli.app import app, check_output, console, counting
from molformer.cli.rows import Failures, print_predictions
from molformer.errors import InputError

if TYPE_CHECKING:
    from molformer.data.readers import Entry, ReadOptions
    from molformer.data.structure import Structure
    from molformer.inference.prediction import Prediction


@app.command()
def predict(
    inputs: Annotated[
        list[str], typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for SMILES line by line.")
    ],
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help="Folder, shipped name or hub id; several are an ensemble. The shipped qm9."),
    ] = [],  # noqa: B006 - typer copies it
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write .csv, .parquet or .sdf; - for CSV on the screen.")
    ] = None,
    target: Annotated[list[str], typer.Option("--target", "-t", help="What to predict; all by default.")] = [],  # noqa: B006
    unit: Annotated[list[str], typer.Option("--unit", "-u", help="UNIT, or NAME=UNIT of a target.")] = [],  # noqa: B006
    conformers: Annotated[int, typer.Option(help="Geometries of a SMILES, over which to average.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last whole row of OUTPUT.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first input that fails.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="End with status 0 even if inputs failed.")] = False,
    smiles_column: Annotated[str, typer.Option(help="Column of a table that holds the SMILES.")] = "",
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="To 3-D SDF, MOL2 and PDB that lack them.")
    ] = False,
    bonds: Annotated[str, typer.Option(help="given, or perceive them for 3-D molecules without.")] = "given",
    delimiter: Annotated[str, typer.Option(help="Between the fields of a table; found out by default.")] = "",
    salts: Annotated[str, typer.Option(help="Of a SMILES with several parts: refuse, largest or keep.")] = "refuse",
    processes: Annotated[int, typer.Option(help="Processes that make geometries; -1 takes all cores.")] = -1,
    batch_size: Annotated[int, typer.Option(help="Geometries that are computed together.")] = 32,
    memory: Annotated[float, typer.Option(help="GiB that a batch may take; larger molecules are refused.")] = 4.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="GPUs that share the work; of cpu, processes.")] = 1,
) -> None:
    """Predict properties of molecules: a row for every input, whatever fails.

    A row whose input failed has no values but a status and a message; the command then ends with status 2. Rows are
    written as they come: a run that was killed goes on with --resume; rows that failed before count as well.
    """
    from molformer.data.readers import ReadOptions
    from molformer.inference.inputs import policy_of
    from molformer.inference.models import default_model
    from molformer.inference.predictor import Predictor
    from molformer.inference.question import Question
    from molformer.inference.writers import ScreenWriter, open_writer

    predictor = Predictor.load(model or [default_model()], device, batch_size, memory, devices)
    options = ReadOptions((), smiles_column, delimiter, add_hydrogens=add_hydrogens, bonds=bonds)
    policy = replace(policy_of(predictor.model.domain), salts=salts)  # type: ignore[arg-type]
    units = {name: value for name, equals, value in (text.partition("=") for text in unit) if equals}
    if len(units) < len(unit) > 1:
        raise InputError("give a single --unit, or NAME=UNIT for each target")
    question = Question.of(predictor.model.targets, target, units if units or not unit else unit[0])
    on_screen = output is None or str(output) == "-"
    if output is not None and not on_screen:
        check_output(output)
        if any(Path(source).exists() and output.exists() and output.samefile(source) for source in inputs):
            raise InputError(f"cannot write '{output}': it is an input")
    elif resume:
        raise InputError("--resume needs the --output FILE of the run that was killed")
    entries, workers = _entries_and_processes(inputs, options, processes)
    layout, failed = predictor.layout(question, conformers), Failures()
    with ExitStack() as stack:
        writer: Any = None
        if output is not None:
            writer = ScreenWriter(layout) if on_screen else stack.enter_context(open_writer(output, layout, resume))
            entries = entries if on_screen else writer.rest(entries, failed.count_status)
        advance = stack.enter_context(counting("rows"))
        shown: list[Prediction] = []
        for row in predictor.stream(entries, question, conformers, strict, policy, workers):
            failed.look_at(row)
            (shown.append if writer is None else writer.write)(row)
            advance()
    if writer is None:
        print_predictions(shown, question.shown)
    elif not on_screen:
        console.print(f"Wrote {failed.rows} rows to {output}")
    if failed.count and not keep_going:
        raise InputError(failed.summary())


@app.command()
def embed(
    inputs: Annotated[
        list[str], typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for SMILES line by line.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="NPZ file to write.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, shipped name or hub id. The shipped qm9.")] = "",
    level: Annotated[str, typer.Option(help="molecule or atom.")] = "molecule",
    keep_going: Annotated[bool, typer.Option("--keep-going", help="End with status 0 even if inputs failed.")] = False,
    smiles_column: Annotated[str, typer.Option(help="Column of a table that holds the SMILES.")] = "",
    processes: Annotated[int, typer.Option(help="Processes that make geometries; -1 takes all cores.")] = -1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Invariant features of molecules or atoms, for search and plots.

    The NPZ file has `names`, `status` and `features`, a row for every input, NaN where it failed; of atoms, the rows
    of input i are ptr[i] to ptr[i+1].
    """
    from molformer.data.readers import ReadOptions
    from molformer.inference.embed import embeddings, save_embeddings
    from molformer.inference.models import default_model
    from molformer.inference.predictor import Predictor

    check_output(output)
    predictor = Predictor.load(model or default_model(), device)
    entries, workers = _entries_and_processes(inputs, ReadOptions(smiles_column=smiles_column), processes)
    failed, rows = Failures(), []
    with counting("rows") as advance:
        for row in embeddings(predictor, entries, level, workers):
            failed.look_at(row)
            rows.append(row)
            advance()
    save_embeddings(output, rows, level, predictor.model.num_features)
    console.print(f"Wrote {len(rows)} rows to {output}")
    if failed.count and not keep_going:
        raise InputError(failed.summary())


@app.command()
def models() -> None:
    """List the models that come with the package."""
    from molformer.inference.models import describe, shipped

    if not shipped():
        console.print("This version ships no model: name a model folder, a run folder or the id of one on the hub.")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "targets", "elements", "parameters", "folder"):
        table.add_column(name, overflow="fold")
    for name, folder in shipped().items():
        table.add_row(name, *describe(folder), str(folder))
    console.print(table)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Folder, shipped name or hub id.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="SMILES or files to check it on; a few small molecules by default.")
    ] = None,
) -> None:
    """Measure what a model promises: symmetry, batches, precision, smoothness, forces; status 1 if one is broken."""
    from molformer.inference.checks import check_model
    from molformer.inference.inputs import embedded, policy_of, read_inputs
    from molformer.inference.predictor import Predictor

    predictor = Predictor.load(model, "cpu")
    structures: list[Structure] = []
    for entry in embedded(read_inputs(inputs or []), policy_of(predictor.model.domain), 0, 1):
        job = predictor.work.job(entry)
        if job.error is not None:
            raise job.error
        structures += job.structures
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("check", "target", "measured", "limit", ""):
        table.add_column(name, justify="right" if name in ("measured", "limit") else "left")
    checks = check_model(predictor.model, structures)
    for row in checks:
        verdict = "pass" if row.passed else "FAIL"
        table.add_row(row.name, row.target, f"{row.measured:.1e}", f"{row.limit:.0e}", verdict)
    console.print(table)
    console.print("Measured: the largest change of a component, as a share of the target's typical deviation")
    if not all(row.passed for row in checks):
        raise typer.Exit(1)


def _entries_and_processes(inputs: list[str], options: "ReadOptions", processes: int) -> "tuple[Iterator[Entry], int]":
    """What is to be predicted, and how many processes make its geometries."""
    from molformer.inference.inputs import processes_for, read_inputs, read_lines

    if "-" in inputs and sys.stdin is None:
        raise InputError("standard input is closed, from which - reads")
    parts = (read_lines(sys.stdin.buffer) if source == "-" else read_inputs([source], options) for source in inputs)
    many = iter(inputs) if "-" in inputs else inputs
    return chain.from_iterable(parts), processes_for(many, None if processes < 0 else processes)
