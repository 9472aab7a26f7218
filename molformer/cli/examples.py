"""`molformer configs` and `molformer notebooks`: what comes with the package, to look at and to change."""

from pathlib import Path
from typing import Annotated

import typer

from molformer import examples
from molformer.cli.app import app, console

configs_app = typer.Typer(help="List and copy the configs of the package.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(configs_app, name="configs")


@configs_app.command("list")
def list_() -> None:
    """List the configs: molformer train NAME uses one as it is."""
    for name in examples.config_names():
        console.print(f"{name:16}{examples.find_config(name).read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


@configs_app.command("copy")
def copy_(
    names: Annotated[list[str], typer.Argument(help="Names of configs, such as table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to copy to.")] = Path(),
) -> None:
    """Copy configs, to change them: molformer configs copy table."""
    for path in examples.copy([examples.find_config(name) for name in names], output):
        console.print(f"Wrote {path}")


@app.command()
def notebooks(
    output: Annotated[Path, typer.Argument(help="Folder to copy to.")] = Path("molformer-examples"),
) -> None:
    """Copy the notebooks, with the data and configs that they use: molformer notebooks [FOLDER]."""
    for path in examples.copy([examples.FOLDER / name for name in ("notebooks", "data", "configs")], output):
        console.print(f"Wrote {path}")
