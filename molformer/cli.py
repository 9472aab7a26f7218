"""The command line: `molformer train`, `molformer predict`. The only module that prints.

Heavy imports stand inside the commands, so that `molformer --help` answers at once.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from molformer.errors import InputError, MolformerError
from molformer.version import __version__

if TYPE_CHECKING:
    from molformer.inference.predictor import Prediction
    from molformer.training.run import TrainingResult

app = typer.Typer(
    help="SE(3)-Transformers for molecules: train on your data, predict from SMILES and XYZ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(markup=False, highlight=False)  # a SMILES holds brackets


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML file of settings, such as configs/quickstart.yaml.")],
) -> None:
    """Train a model: molformer train CONFIG [--key value ...].

    Every key of the config can be set again on the command line, for instance --epochs 20 --targets "[gap, homo]".
    """
    from molformer.training.arguments import read_configs

    encoder, training = read_configs(config, context.args)

    from molformer.training.progress import RunProgress
    from molformer.training.run import train as run

    console.print(f"Training on {training.data}: {', '.join(training.targets)}")
    result = run(encoder, training, RunProgress(console))
    _print_errors(result)


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(help="SMILES, or files: .xyz, .smi.", metavar="INPUT...")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model folder or run folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a CSV file instead of a table.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Give a row with a status to an input that fails, and go on.")
    ] = False,
) -> None:
    """Predict properties of molecules from SMILES and XYZ files."""
    from molformer.inference.predictor import Predictor
    from molformer.inference.table import write_csv

    predictor = Predictor.load(model, device)
    if output is not None and not output.resolve().parent.is_dir():
        raise InputError(f"cannot write '{output}': its folder does not exist")
    predictions = predictor.predict(inputs, strict=not keep_going)
    if output is None:
        _print_predictions(predictions)
    else:
        write_csv(output, predictions, predictor.model.targets)
        console.print(f"Wrote {len(predictions)} rows to {output}")


def _print_errors(result: "TrainingResult") -> None:
    title = f"Mean absolute errors on the test part, after {result.epochs} epochs in {result.seconds:.0f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("target", "unit"):
        table.add_column(name)
    for name in ("n", "model", "composition", "mean", "model is better by"):
        table.add_column(name, justify="right")
    for row in result.errors:
        gain = f"{min(row.mae_composition, row.mae_mean) / row.mae:.1f} ×" if row.mae else ""
        numbers = [f"{value:.4g}" for value in (row.mae, row.mae_composition, row.mae_mean)]
        table.add_row(row.target.name, row.target.unit, str(row.count), *numbers, gain)
    console.print(table)
    console.print("composition: least squares on the number of atoms of each element; mean: one value for all")
    console.print(f"Model folder: {result.model}")


def _print_predictions(predictions: "list[Prediction]") -> None:
    from molformer.data.readers import is_file
    from molformer.inference.table import cells, columns

    targets = next((prediction.values for prediction in predictions if prediction.values), {})
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("input", "formula"):
        table.add_column(name, overflow="fold")
    for name in columns(targets):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for prediction in predictions:
        formula = prediction.structure.formula if prediction.structure else ""
        name = Path(prediction.name).name if is_file(prediction.name) else prediction.name
        table.add_row(name, formula, *cells(prediction.values, targets), prediction.status)
    console.print(table)
    for prediction in predictions:
        if prediction.message:
            console.print(prediction.message)


def main() -> Any:
    """Run the command line; a user's error is one line on standard error and status 2."""
    # Some processors advertise AMX and then die in a bfloat16 product; read when torch is imported.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
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
