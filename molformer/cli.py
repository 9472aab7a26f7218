"""The command line: `molformer train`, `predict` and `data`. The only module that prints.

Heavy imports stand inside the commands, so that `molformer --help` answers at once.
"""

import logging
import os
import sys
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from molformer.errors import InputError, MolformerError
from molformer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from molformer.data.readers import Entry
    from molformer.data.structure import Label, Structure
    from molformer.inference.embed import Embedding
    from molformer.inference.prediction import Prediction
    from molformer.models.config import SE3TransformerConfig
    from molformer.training.config import TrainingConfig

app = typer.Typer(
    help="SE(3)-Transformers for molecules: train on your data, predict from SMILES and XYZ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make, look at and split structure stores.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
convert_app = typer.Typer(
    help="Make model folders from weights of others.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(convert_app, name="convert")
console = Console(markup=False, highlight=False)  # a SMILES holds brackets
_BAR = (TextColumn("{task.description} {task.completed}"), SpinnerColumn(), TimeElapsedColumn())


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_SETTINGS)
def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML file of settings, such as configs/qm9.yaml.")] = "",
    resume: Annotated[str, typer.Option(help="Go on with the run in this folder.", metavar="RUN")] = "",
) -> None:
    """Train a model: molformer train [CONFIG] [--key value ...].

    Every key of a config can be set on the command line, for instance --epochs 20. No config is needed:
    molformer train --data mols.csv --target logS. --target can be given several times; --no-wandb turns W&B off.
    `molformer settings` lists all keys.
    """
    from molformer.training.arguments import plain_overrides, read_configs, read_run

    config, overrides = _config_and_overrides(config, context.args)
    if resume and config:
        raise InputError("--resume takes no config: the run folder has its own")
    overrides = plain_overrides(overrides)
    encoder, training = read_run(resume, overrides) if resume else read_configs(config or None, overrides)
    _train(encoder, training, resume=bool(resume))


@app.command(context_settings=_SETTINGS)
def finetune(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model folder or run folder to start from.")],
    config: Annotated[str, typer.Argument(help="YAML file of settings.")] = "",
) -> None:
    """Train new heads on a trained encoder: molformer finetune MODEL --data mols.csv --target logS.

    The encoder learns at --encoder_rate of the rate of the heads (0.1); --freeze 2 leaves its first two layers as they
    are. Every other key of a config can be set as well.
    """
    from molformer.training.arguments import plain_overrides, read_configs

    config, overrides = _config_and_overrides(config, context.args)
    encoder, training = read_configs(config or None, [*plain_overrides(overrides), "--initial", model])
    _train(encoder, training)


@app.command(context_settings=_SETTINGS)
def tune(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML file of the settings that stay.")] = "",
    vary: Annotated[list[str], typer.Option(help="KEY=LOW:HIGH or KEY=A,B,C; several times.")] = [],  # noqa: B006
    trials: Annotated[int, typer.Option(help="Training runs, those of an earlier call included.")] = 20,
    folder: Annotated[Path, typer.Option(help="Where the runs go; an earlier search there goes on.")] = Path(
        "runs/tune"
    ),
) -> None:
    """Search for good settings: molformer tune CONFIG --vary learning_rate=1e-4:3e-3 --vary channels=32,64.

    Every other key of a config can be set as for `train`. Needs the extra `tune`.
    """
    from molformer.training.arguments import plain_overrides
    from molformer.training.tune import Range, tune

    config, overrides = _config_and_overrides(config, context.args)
    overrides = plain_overrides(overrides)
    study = tune(config or None, overrides, [Range.parse(text) for text in vary], trials, folder, console.print)
    if not any(trial.value is not None and trial.state.name == "COMPLETE" for trial in study.trials):
        raise InputError(f"no trial of {folder} ended with a finite validation loss")
    best = " ".join(f"--{key} {value}" for key, value in study.best_params.items())
    console.print(f"Best validation loss {study.best_value:.4f}: {best}")


@app.command()
def settings() -> None:
    """List the keys of a config, with their defaults and what they mean."""
    from molformer.training.arguments import describe_keys

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("default", overflow="fold")
    table.add_column("meaning", overflow="fold")
    for row in describe_keys():
        table.add_row(*row)
    console.print(table)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or run folder.")],
    data: Annotated[list[str], typer.Argument(help="A structure store, or files with labels: .csv .xyz .npz …")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for predictions and plots.")] = None,
    target: Annotated[list[str], typer.Option("--target", "-t", help="NAME or NAME=KIND,UNIT; all by default.")] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="A run's split.json, to test one part of the data.")] = "",
    part: Annotated[str, typer.Option(help="Which part of it: train, val or test.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Structures that are computed together.")] = 64,
    smiles_column: Annotated[str, typer.Option(help="Column of a table that holds the SMILES.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure a model on labelled data: errors with 95 % bootstrap intervals."""
    from molformer.training.errors_table import LEGEND, errors_table
    from molformer.training.testing import evaluate_model

    sources = data[0] if len(data) == 1 else data
    with Progress(*_BAR, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("structures", total=None)
        result = evaluate_model(
            model,
            sources,
            target,
            split,
            part,
            batch_size,
            device,
            smiles_column,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(errors_table(result.errors, f"{len(result.indices)} structures of {', '.join(data)}"))
    console.print(LEGEND)
    if output is not None:
        result.write(output)
        console.print(f"Wrote predictions and plots to {output}")


@app.command()
def predict(
    inputs: Annotated[
        list[str], typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for SMILES line by line.")
    ],
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="Folder, shipped name or hub id; several are an ensemble.")
    ],
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
    processes: Annotated[int, typer.Option(help="Processes that make geometries; -1 takes all cores.")] = -1,
    batch_size: Annotated[int, typer.Option(help="Geometries that are computed together.")] = 64,
    memory: Annotated[float, typer.Option(help="GiB that a batch may take; larger molecules are refused.")] = 4.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Predict properties of molecules: a row for every input, whatever fails.

    A row whose input failed has no values but a status and a message; the command then ends with status 2. Rows are
    written as they come: a run that was killed goes on with --resume.
    """
    from molformer.inference.predictor import Predictor
    from molformer.inference.question import Question
    from molformer.inference.writers import ScreenWriter, open_writer

    predictor = Predictor.load(model, device, batch_size, memory)
    units = {name: value for name, equals, value in (text.partition("=") for text in unit) if equals}
    if len(units) < len(unit) > 1:
        raise InputError("give a single --unit, or NAME=UNIT for each target")
    question = Question.of(predictor.model.targets, target, units if units or not unit else unit[0])
    on_screen = output is None or str(output) == "-"
    if output is not None and not on_screen:
        _check_output(output)
        if any(Path(source).exists() and output.exists() and output.samefile(source) for source in inputs):
            raise InputError(f"cannot write '{output}': it is an input")
    elif resume:
        raise InputError("--resume needs the --output FILE of the run that was killed")
    entries, workers = _entries_and_processes(inputs, smiles_column, processes)
    layout, failed = predictor.layout(question, conformers), _Failures()
    with ExitStack() as stack:
        writer: Any = None
        if output is not None:
            writer = ScreenWriter(layout) if on_screen else stack.enter_context(open_writer(output, layout, resume))
            entries = entries if on_screen else writer.rest(entries)
        advance = stack.enter_context(_counting("rows"))
        shown: list[Prediction] = []
        for row in predictor.stream(entries, question, conformers, strict, processes=workers):
            failed.look_at(row)
            (shown.append if writer is None else writer.write)(row)
            advance()
    if writer is None:
        _print_predictions(shown, question.shown)
    elif not on_screen:
        console.print(f"Wrote {failed.rows} rows to {output}")
    if failed.count and not keep_going:
        raise InputError(failed.summary())


@app.command()
def embed(
    inputs: Annotated[
        list[str], typer.Argument(help="SMILES, files (.smi .csv .sdf .xyz …), or - for SMILES line by line.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, shipped name or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NPZ file to write.")],
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
    from molformer.inference.embed import embeddings, save_embeddings
    from molformer.inference.predictor import Predictor

    _check_output(output)
    predictor = Predictor.load(model, device)
    entries, workers = _entries_and_processes(inputs, smiles_column, processes)
    failed, rows = _Failures(), []
    with _counting("rows") as advance:
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


@data_app.command("import")
def import_(
    inputs: Annotated[list[str], typer.Argument(help="SMILES, files, folders, or the name of a known data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write.")],
    target: Annotated[
        list[str], typer.Option("--target", "-t", help="Label to take along: NAME, NAME=KIND or NAME=KIND,UNIT.")
    ] = [],  # noqa: B006 - typer copies it
    smiles_column: Annotated[str, typer.Option(help="Column of a table that holds the SMILES.")] = "",
    source_file: Annotated[
        Path | None, typer.Option("--from", help="A file of a known data set that you have already.")
    ] = None,
    conformers: Annotated[str, typer.Option(help="given, etkdg or etkdg+mmff.")] = "etkdg+mmff",
    seed: Annotated[int, typer.Option(help="Of conformers, and of a data set that is made.")] = 7,
    count: Annotated[int, typer.Option(help="Structures of a data set that is made; 0 for its own number.")] = 0,
    points: Annotated[int, typer.Option(help="Points sampled from a mesh.")] = 1024,
    processes: Annotated[int, typer.Option(help="Processes that make geometries; -1 takes all cores.")] = -1,
    cache: Annotated[bool, typer.Option(help="Keep geometries from one import to the next.")] = True,
) -> None:
    """Import molecules or point clouds into a structure store.

    Every row ends in the store, or in STORE.rejected.csv with its number and the reason.
    """
    from molformer.data import datasets
    from molformer.data.conformers import ConformerPolicy
    from molformer.data.importing import cache_folder, import_dataset, import_inputs
    from molformer.data.labels import parse_targets
    from molformer.data.readers import ReadOptions

    policy = ConformerPolicy(method=conformers, seed=seed)  # type: ignore[arg-type]
    workers = (os.cpu_count() or 1) if processes < 0 else processes
    kept = cache_folder() / "geometries" if cache else None
    by_name = len(inputs) == 1 and inputs[0] in datasets.names()
    if (source_file is not None or count) and not by_name:
        option = "--count" if count else "--from"
        raise InputError(f"{option} is for a data set by its name; `molformer data list` names them")
    with Progress(*_BAR, console=console, disable=not console.is_terminal) as bar:
        rows = bar.add_task("rows", total=None)

        def row() -> None:
            bar.advance(rows)

        def bytes_there(done: int, total: int | None) -> None:
            bar.update(rows, description=f"downloaded {done / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB, rows")

        if by_name:
            result = import_dataset(
                inputs[0], output, source_file, policy, workers, row, kept, bytes_there, count, seed
            )
        else:
            options = ReadOptions(parse_targets(target, inputs), smiles_column, points=points, seed=seed)
            result = import_inputs(inputs, output, options, policy, workers, progress=row, cache=kept)
    console.print(f"Wrote {len(result.store)} structures to {result.store.path}")
    if result.record is not None:
        console.print(f"Rejected {result.rejected} rows, each with its reason in {result.record}")


@data_app.command("list")
def list_() -> None:
    """List the public data sets that can be imported by name."""
    from molformer.data import datasets

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "licence", "what it is"):
        table.add_column(name)
    for name in datasets.names():
        dataset = datasets.info(name)
        table.add_row(name, dataset.licence, dataset.title)
    console.print(table)


@data_app.command()
def info(
    store: Annotated[Path, typer.Argument(help="A structure store.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare the content with its hash.")] = False,
) -> None:
    """Show what is in a store: counts, elements, labels and how many are missing."""
    from molformer.data.store import StructureStore
    from molformer.data.summary import describe, describe_labels

    opened = StructureStore(store)
    if verify:
        opened.verify()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for heading, text in describe(opened):
        facts.add_row(heading, text)
    console.print(facts)
    if opened.labels:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name in ("label", "unit", "kind", "missing", "mean", "lowest", "spread", "highest"):
            table.add_column(
                name, justify="right" if name in ("missing", "mean", "lowest") else "left", overflow="fold"
            )
        for row in describe_labels(opened):
            table.add_row(*row)
        console.print(table)
    if verify:
        console.print("The content agrees with its hash.")


@data_app.command()
def split(
    store: Annotated[Path, typer.Argument(help="A structure store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    by: Annotated[str, typer.Option(help="random, scaffold or stratified.")] = "random",
    fractions: Annotated[tuple[float, float, float], typer.Option(help="Training, validation, test.")] = (
        0.8,
        0.1,
        0.1,
    ),
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
    label: Annotated[str, typer.Option(help="What a stratified split looks at.")] = "",
    folds: Annotated[int, typer.Option(help="Parts of a cross-validation; 0 for none.")] = 0,
    fold: Annotated[int, typer.Option(help="Which of them is the test part, from 0.")] = 0,
) -> None:
    """Split a store; train on the result with --split_by file --split_file FILE."""
    from molformer.data.splits import SplitPolicy, make_split, write_split
    from molformer.data.store import StructureStore

    _check_output(output)
    policy = SplitPolicy(by, fractions, seed, label, folds=folds, fold=fold)  # type: ignore[arg-type]
    parts = make_split(StructureStore(store), policy)
    write_split(parts, output)
    console.print(f"Wrote {output}: training {len(parts.train)}, validation {len(parts.val)}, test {len(parts.test)}")


@convert_app.command()
def nvidia(
    checkpoint: Annotated[Path, typer.Argument(help="What NVIDIA's training script saved, a .pth file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    target: Annotated[str, typer.Option("--target", "-t", help="What it predicts: NAME=intensive,UNIT.")] = (
        "homo=intensive,eV"
    ),
    heads: Annotated[int, typer.Option(help="Attention heads, which the weights do not tell.")] = 8,
    pooling: Annotated[str, typer.Option(help="max or mean (avg there), which they do not tell either.")] = "max",
    mean: Annotated[float, typer.Option(help="Of the target on the training part.")] = 0.0,
    std: Annotated[float, typer.Option(help="By which the deviation from it was divided.")] = 1.0,
    e3nn: Annotated[str, typer.Option(help="Version it was trained with, 0.3 or 0.6: signs differ.")] = "0.3",
) -> None:
    """Make a model folder of architecture `paper` from NVIDIA's SE(3)-Transformer for QM9.

    The model takes what that network takes: numbers of each atom and, of each edge, its kind of bond; see
    `GraphBatch.features` and `GraphBatch.edge_features`.
    """
    from molformer.data.labels import parse_targets
    from molformer.models.nvidia import from_nvidia, load_nvidia

    (label,) = parse_targets([target])
    model = from_nvidia(load_nvidia(checkpoint), label, heads, pooling, mean, std, e3nn)  # type: ignore[arg-type]
    model.save(output)
    config = model.config
    console.print(
        f"Wrote {output}: lmax {config.lmax}, {config.channels} channels, {config.num_layers} layers; takes "
        f"{config.input_numbers} numbers of each atom and {config.input_edge_numbers} of each edge"
    )


def _check_output(path: Path) -> None:
    """Say before the work that its result could not be written."""
    if path.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder; name a file in it")
    if not path.resolve().parent.is_dir():
        raise InputError(f"cannot write '{path}': its folder does not exist")


def _config_and_overrides(config: str, arguments: "Sequence[str]") -> tuple[str, list[str]]:
    """Without a config, the command line takes the first --key for one."""
    return ("", [config, *arguments]) if config.startswith("--") else (config, list(arguments))


def _train(encoder: "SE3TransformerConfig", training: "TrainingConfig", resume: bool = False) -> None:
    from molformer.training.distributed import writes_files
    from molformer.training.errors_table import LEGEND, errors_table
    from molformer.training.progress import RunProgress
    from molformer.training.run import train as run

    first = writes_files()
    if first:
        sources = [training.data] if isinstance(training.data, str) else training.data
        console.print(f"Training on {', '.join(sources)}: {', '.join(training.target_names)}")
    result = run(encoder, training, RunProgress(console) if first else None, resume)
    if not first:
        return
    title = f"Errors on the test part, after {result.epochs} epochs in {result.seconds:.0f} s"
    console.print(errors_table(result.errors, title))
    console.print(LEGEND)
    console.print(f"Model folder: {result.model}")


def _entries_and_processes(inputs: list[str], smiles_column: str, processes: int) -> "tuple[Iterator[Entry], int]":
    """What is to be predicted, and how many processes make its geometries."""
    from molformer.data.readers import ReadOptions
    from molformer.inference.inputs import processes_for, read_inputs, read_lines

    options = ReadOptions(smiles_column=smiles_column)
    parts = (read_lines(sys.stdin) if source == "-" else read_inputs([source], options) for source in inputs)
    many = iter(inputs) if "-" in inputs else inputs
    return chain.from_iterable(parts), processes_for(many, None if processes < 0 else processes)


@contextmanager
def _counting(what: str) -> "Iterator[Callable[[], None]]":
    """A counter of what is done, on a terminal; standard output is for results."""
    screen = Console(stderr=True)
    with Progress(*_BAR, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda: bar.advance(task)


class _Failures:
    """Counts the rows without values."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = ""
        self.by_status: dict[str, int] = {}

    @property
    def count(self) -> int:
        return sum(self.by_status.values())

    def look_at(self, row: "Prediction | Embedding") -> None:
        self.rows += 1
        if row.status not in ("ok", "out_of_domain"):
            self.first = self.first or row.message
            self.by_status[row.status] = self.by_status.get(row.status, 0) + 1

    def summary(self) -> str:
        """One line; of a single failure, its message."""
        if self.count == 1:
            return self.first
        counts = ", ".join(f"{count} {status}" for status, count in self.by_status.items())
        return f"{self.count} of {self.rows} rows have no values ({counts}); the first: {self.first}"


def _print_predictions(predictions: "list[Prediction]", targets: "Sequence[Label]") -> None:
    from molformer.data.readers import is_file
    from molformer.inference.table import screen_cells, screen_headings

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("input", "formula"):
        table.add_column(name, overflow="fold")
    for name in screen_headings(targets):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for prediction in predictions:
        formula = prediction.structure.formula if prediction.structure else ""
        name = Path(prediction.name).name if is_file(prediction.name) else prediction.name
        table.add_row(name, formula, *screen_cells(prediction.values, targets), prediction.status)
    console.print(table)
    values = [value for prediction in predictions for value in prediction.values.values()]
    if any(value.std is not None for value in values):
        console.print("±: standard deviation over conformers and models")
    elif any(value.interval is not None for value in values):
        console.print("±: holds the truth for 90 % of the validation set")
    for prediction in predictions:
        if prediction.message:
            console.print(prediction.message)


def main() -> Any:
    """Run the command line; a user's error is one line on standard error and status 2."""
    # Some processors advertise AMX and then die in a bfloat16 product; read when torch is imported.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch's remarks on how processes share gradients
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("molformer").setLevel(logging.INFO)
    try:
        return app()
    except MolformerError as error:
        print(f"molformer: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("molformer: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)
