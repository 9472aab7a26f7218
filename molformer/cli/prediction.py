"""`molformer predict`, `embed`, `models` and `check`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molformer.cli.app import app, check_output, console, counting, new_table
from molformer.cli.rows import Failures, print_predictions
from molformer.errors import InputError

if TYPE_CHECKING:
    from molformer.data.readers import Entry, ReadOptions
    from molformer.inference.prediction import Prediction
    from molformer.structure import Structure


_TRAIN = "Train a model for other molecules: molformer train --data FILE --target NAME (example: train quickstart)"
_WITHOUT_MODEL = "Without --model, base answers for what qm9 does not know."


@app.command()
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for lines of SMILES on standard input."),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="Folder, shipped name or hub id; several form an ensemble. Default: qm9, and base elsewhere.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output file: .csv, .parquet or .sdf; - for CSV on standard output."),
    ] = None,
    target: Annotated[list[str], typer.Option("--target", "-t", help="Targets to predict; all by default.")] = [],  # noqa: B006
    unit: Annotated[
        list[str], typer.Option("--unit", "-u", help="Output unit: UNIT, or NAME=UNIT for one target.")
    ] = [],  # noqa: B006
    conformers: Annotated[
        int | None,
        typer.Option(help="Number of conformers of a SMILES to average over; by default the model's."),
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="Of a SMILES: etkdg, refined (by the model) or xtb (GFN2-xTB); by default the model's.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Resume after the last complete row of OUTPUT.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first error.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Exit with status 0 even if inputs failed.")] = False,
    smiles_column: Annotated[str, typer.Option(help="SMILES column of a table; detected by default.")] = "",
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="Add missing hydrogens to 3-D SDF, MOL2 and PDB.")
    ] = False,
    bonds: Annotated[str, typer.Option(help="given, or perceive them for 3-D molecules without.")] = "given",
    delimiter: Annotated[str, typer.Option(help="Field delimiter of a table; detected by default.")] = "",
    salts: Annotated[str, typer.Option(help="SMILES of several fragments: refuse, largest or keep.")] = "refuse",
    processes: Annotated[int, typer.Option(help="Worker processes for conformers; -1 for all cores.")] = -1,
    batch_size: Annotated[int, typer.Option(help="Largest number of geometries in a batch.")] = 32,
    memory: Annotated[float, typer.Option(help="Memory limit of a batch, GiB.")] = 4.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="Number of GPUs, or of processes on cpu.")] = 1,
) -> None:
    """Predict properties of molecules, with a row for every input.

    An input that fails has a row with a status and a message, and the command exits with status 2. Rows are written
    immediately; an interrupted run is continued by --resume, including the failures of its existing rows.
    """
    from molformer.data.readers import ReadOptions
    from molformer.inference.fallback import FallbackPredictor, default_predictor
    from molformer.inference.models import default_model, shipped
    from molformer.inference.predictor import Predictor
    from molformer.inference.request import PredictionRequest
    from molformer.inference.writers import ScreenWriter, open_writer

    several = default_predictor(device, batch_size, memory) if not model and devices == 1 else None
    predictor = several or Predictor.load(model or [default_model()], device, batch_size, memory, devices)
    first = predictor.predictors[0] if isinstance(predictor, FallbackPredictor) else predictor
    options = ReadOptions((), smiles_column, delimiter, add_hydrogens=add_hydrogens, bonds=bonds)
    policy = replace(first.policy(geometry), salts=salts)  # type: ignore[arg-type]
    units = {name: value for name, equals, value in (text.partition("=") for text in unit) if equals}
    if len(units) < len(unit) > 1:
        raise InputError("give a single --unit, or NAME=UNIT for each target")
    request = PredictionRequest.of(predictor.targets, target, units if units or not unit else unit[0])
    on_screen = output is None or str(output) == "-"
    if output is not None and not on_screen:
        check_output(output)
        if any(Path(source).exists() and output.exists() and output.samefile(source) for source in inputs):
            raise InputError(f"cannot write '{output}': it is an input")
    elif resume:
        raise InputError("--resume needs the --output FILE of the interrupted run")
    entries, workers = _entries_and_processes(inputs, options, processes)
    layout, failed = predictor.layout(request, conformers), Failures()
    with ExitStack() as stack:
        writer: Any = None
        if output is not None:
            writer = ScreenWriter(layout) if on_screen else stack.enter_context(open_writer(output, layout, resume))
            entries = entries if on_screen else writer.rest(entries, failed.count_status)
        advance = stack.enter_context(counting("rows"))
        shown: list[Prediction] = []
        for row in predictor.stream(entries, request, conformers, strict, policy, workers, geometry or None):
            failed.look_at(row)
            (shown.append if writer is None else writer.write)(row)
            advance()
    if writer is None:
        print_predictions(shown, request.shown, predictor.known)
    elif not on_screen:
        console.print(f"Wrote {failed.rows} rows to {output}")
    if failed.unknown and {*model} <= {*shipped()}:
        console.print(_TRAIN if several else f"{_WITHOUT_MODEL} {_TRAIN}")
    if failed.count and not keep_going:
        raise InputError(failed.summary())


@app.command()
def embed(
    inputs: Annotated[
        list[str],
        typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for lines of SMILES on standard input."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="NPZ file to write.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, shipped name or hub id. Default: qm9.")] = "",
    level: Annotated[str, typer.Option(help="molecule or atom.")] = "molecule",
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Exit with status 0 even if inputs failed.")] = False,
    smiles_column: Annotated[str, typer.Option(help="SMILES column of a table; detected by default.")] = "",
    salts: Annotated[str, typer.Option(help="SMILES of several fragments: refuse, largest or keep.")] = "refuse",
    processes: Annotated[int, typer.Option(help="Worker processes for conformers; -1 for all cores.")] = -1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write invariant features of molecules or atoms, for similarity search and maps.

    The NPZ file has `names`, `status` and `features`, a row for every input, NaN where it failed; with --level atom,
    the rows of input i are ptr[i]:ptr[i+1].
    """
    from molformer.data.readers import ReadOptions
    from molformer.inference.embeddings import embeddings, save_embeddings
    from molformer.inference.models import default_model
    from molformer.inference.predictor import Predictor
    from molformer.inference.sources import policy_of

    check_output(output)
    predictor = Predictor.load(model or default_model(), device)
    entries, workers = _entries_and_processes(inputs, ReadOptions(smiles_column=smiles_column), processes)
    policy = replace(policy_of(predictor.model.domain), salts=salts)  # type: ignore[arg-type]
    failed, rows = Failures(), []
    with counting("rows") as advance:
        for row in embeddings(predictor.runner, entries, level, workers, policy):
            failed.look_at(row)
            rows.append(row)
            advance()
    save_embeddings(output, rows, level, predictor.model.num_features)
    console.print(f"Wrote {len(rows)} rows to {output}")
    if failed.count and not keep_going:
        raise InputError(failed.summary())


@app.command()
def models() -> None:
    """List the shipped models."""
    from molformer.inference.models import describe, shipped

    if not shipped():
        console.print("This version ships no model: name a model folder, a run folder or the id of one on the hub.")
        return
    table = new_table("name", "targets", "elements", "parameters", "folder")
    for name, folder in shipped().items():
        table.add_row(name, *describe(folder), str(folder))
    console.print(table)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Folder, shipped name or hub id.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="SMILES or files to evaluate; a few small molecules by default.")
    ] = None,
) -> None:
    """Check equivariance, batching, precision, smoothness and forces of a model; exit with status 1 on failure."""
    from molformer.inference.checks import check_model
    from molformer.inference.predictor import Predictor
    from molformer.inference.sources import policy_of, read_inputs, with_geometries

    predictor = Predictor.load(model, "cpu")
    structures: list[Structure] = []
    for entry in with_geometries(read_inputs(inputs or []), policy_of(predictor.model.domain), 0, 1):
        job = predictor.runner.job(entry)
        if job.error is not None:
            raise job.error
        structures += job.structures
    table = new_table("check", "target", "measured", "limit", "", right=("measured", "limit"))
    checks = check_model(predictor.model, structures)
    for row in checks:
        verdict = "pass" if row.passed else "FAIL"
        table.add_row(row.name, row.target, f"{row.measured:.1e}", f"{row.limit:.0e}", verdict)
    console.print(table)
    console.print("Measured: the largest change of a component, relative to the standard deviation of the target")
    if not all(row.passed for row in checks):
        raise typer.Exit(1)


def _entries_and_processes(inputs: list[str], options: "ReadOptions", processes: int) -> "tuple[Iterator[Entry], int]":
    """The entries to predict, and the number of worker processes for conformers."""
    from molformer.inference.sources import processes_for, read_inputs, read_lines

    if "-" in inputs and sys.stdin is None:
        raise InputError("standard input is closed, from which - reads")
    parts = (read_lines(sys.stdin.buffer) if source == "-" else read_inputs([source], options) for source in inputs)
    many = iter(inputs) if "-" in inputs else inputs
    return chain.from_iterable(parts), processes_for(many, None if processes < 0 else processes)
