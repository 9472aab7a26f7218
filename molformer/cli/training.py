"""`molformer train`, `pretrain`, `finetune`, `tune`, `settings` and `evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from molformer.cli.app import BAR, app, console, new_table
from molformer.errors import InputError

_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_SETTINGS)
def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML config, or the name of one, such as qm9.")] = "",
    resume: Annotated[str, typer.Option(help="Resume the run in this folder.", metavar="RUN")] = "",
) -> None:
    """Train a model: molformer train [CONFIG] [--key value ...].

    Every key of a config can be set on the command line, for instance --epochs 20. A config is optional:
    molformer train --data mols.csv --target logS. --target can be repeated; --no-wandb disables W&B.
    `molformer settings` lists all keys.
    """
    _train(config, context.args, resume)


@app.command(context_settings=_SETTINGS)
def pretrain(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML config, or the name of one, such as pretrain.")] = "",
    resume: Annotated[str, typer.Option(help="Go on with the run in this folder.", metavar="RUN")] = "",
) -> None:
    """Train an encoder without labels: molformer pretrain [CONFIG] --data SMILES.csv.gz … [--key value ...].

    Self-supervised: the network learns RDKit's descriptors, hidden elements and the noise on positions, see the key
    objectives. Structure stores among the data bring labels that can be learnt along, --target gfn2_homo. --sample
    draws so many molecules of each list. The model is what `finetune` starts from.
    """
    from molformer.training.arguments import PRETRAINING

    _train(config, context.args, resume, PRETRAINING)


@app.command(context_settings=_SETTINGS)
def finetune(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Initial model: model folder, run folder or name of a shipped model.")],
    config: Annotated[str, typer.Argument(help="YAML config.")] = "",
) -> None:
    """Fine-tune a trained encoder with new heads: molformer finetune MODEL --data mols.csv --target logS.

    The learning rate of the encoder is --encoder_rate (0.1) times that of the heads; --freeze 2 freezes its first two
    layers. All other keys of a config can be set as well.
    """
    _train(config, [*context.args, "--initial", model])


@app.command(context_settings=_SETTINGS)
def tune(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="YAML config of the fixed settings.")] = "",
    vary: Annotated[list[str], typer.Option(help="Search space: KEY=LOW:HIGH or KEY=A,B,C; can be repeated.")] = [],  # noqa: B006
    trials: Annotated[int, typer.Option(help="Number of training runs, including earlier ones.")] = 20,
    folder: Annotated[Path, typer.Option(help="Output folder; an earlier search in it is resumed.")] = Path(
        "runs/tune"
    ),
) -> None:
    """Search for hyperparameters: molformer tune CONFIG --vary learning_rate=1e-4:3e-3 --vary channels=32,64.

    All other keys of a config can be set as for `train`. Needs the extra `tune`.
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
    """List all keys of a config, with defaults and descriptions."""
    from molformer.training.arguments import describe_keys

    table = new_table("key", "default", "meaning")
    table.columns[0].no_wrap = True
    for row in describe_keys():
        table.add_row(*row)
    console.print(table)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or run folder.")],
    data: Annotated[list[str], typer.Argument(help="A structure store, or files with labels: .csv .xyz .npz …")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for predictions and plots.")] = None,
    target: Annotated[list[str], typer.Option("--target", "-t", help="NAME or NAME=KIND,UNIT; all by default.")] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="split.json of a run, to evaluate a single part.")] = "",
    part: Annotated[str, typer.Option(help="Part of the split: train, val or test.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Structures per batch.")] = 64,
    smiles_column: Annotated[str, typer.Option(help="SMILES column of a table; detected by default.")] = "",
    salts: Annotated[str, typer.Option(help="SMILES of several fragments: refuse, largest or keep.")] = "refuse",
    censored: Annotated[str, typer.Option(help="Values such as >5: bounds, or refuse their rows.")] = "bounds",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Evaluate a model on labelled data: errors with 95 % bootstrap intervals."""
    from molformer.cli.errors_table import LEGEND, errors_table, print_coverage
    from molformer.training.evaluation import evaluate_model

    sources = data[0] if len(data) == 1 else data
    with Progress(*BAR, console=console, disable=not console.is_terminal, transient=True) as bar:
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
            salts,  # type: ignore[arg-type]
            censored,  # type: ignore[arg-type]
        )
    console.print(errors_table(result.errors, f"{len(result.indices)} structures of {', '.join(data)}"))
    console.print(LEGEND)
    print_coverage(result.covered)
    if output is not None:
        result.write(output)
        console.print(f"Wrote predictions and plots to {output}")


def _config_and_overrides(config: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Without a config, its positional argument holds the first --key."""
    return ("", [config, *arguments]) if config.startswith("--") else (config, list(arguments))


def _train(config: str, arguments: Sequence[str], resume: str = "", defaults: Mapping[str, Any] | None = None) -> None:
    from molformer.cli.errors_table import LEGEND, comparison_table, errors_table
    from molformer.training.arguments import plain_overrides, read_configs, read_run
    from molformer.training.distributed import writes_files
    from molformer.training.progress import RunProgress
    from molformer.training.run import train as run

    config, arguments = _config_and_overrides(config, arguments)
    if resume and config:
        raise InputError("--resume takes no config: the run folder has its own")
    overrides = plain_overrides(arguments)
    configs = read_run(resume, overrides) if resume else read_configs(config or None, overrides, defaults)
    encoder, training = configs
    first = writes_files()
    if first:
        sources = [training.data] if isinstance(training.data, str) else training.data
        console.print(f"Training on {', '.join(sources)}: {', '.join(training.target_names)}")
        if training.summary:
            console.print(training.summary[0].upper() + training.summary[1:])
    result = run(encoder, training, RunProgress(console) if first else None, bool(resume))
    if not first:
        return
    title = f"Errors on the test part, after {result.epochs} epochs in {result.seconds:.0f} s"
    if result.errors:
        console.print(errors_table(result.errors, title))
        console.print(LEGEND)
        if result.classical:
            console.print(comparison_table(result.errors, result.seconds, result.classical))
    else:
        console.print("No test part: test errors are unknown")
    console.print(f"Model folder: {result.model}")
