"""The application, console, progress counters, and checks of output paths."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from molformer.errors import InputError
from molformer.version import __version__

app = typer.Typer(
    help="SE(3)-Transformers for molecules: train on your data, predict from SMILES and XYZ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(markup=False, highlight=False)  # brackets of SMILES are not markup
BAR = (TextColumn("{task.description} {task.completed}"), SpinnerColumn(), TimeElapsedColumn())


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


def new_table(*headings: str, right: Container[str] = (), **options: Any) -> Table:
    """Table with these columns, some of them right-aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, **options)
    for name in headings:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


@contextmanager
def counting(what: str) -> Iterator[Callable[[], None]]:
    """Progress counter on standard error, if it is a terminal."""
    screen = Console(stderr=True)
    with Progress(*BAR, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda: bar.advance(task)


def check_output(path: Path) -> None:
    """Check in advance that an output file can be written."""
    if path.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder; name a file in it")
    if not path.resolve().parent.is_dir():
        raise InputError(f"cannot write '{path}': its folder does not exist")
