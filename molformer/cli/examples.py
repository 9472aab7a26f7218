"""`molformer configs` and `molformer notebooks`: what comes with the package, to look at and to change."""

from pathlib import Path
from typing import Annotated

import typer

from molformer import examples
from molformer.cli.app import app, console

configs_app = typer.Typer(help="List and copy the configs of the package.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(configs_app, name="configs")
_Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to copy to.")]


@configs_app.command("list")
def list_() -> None:
    """List the configs: molformer train NAME uses one as it is."""
    for name in examples.config_names():
        console.print(f"{name:16}{examples.find_config(name).read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


@configs_app.command("copy")
def copy_(names: list[str], output: _Output = Path()) -> None:
    """Copy configs, to change them: molformer configs copy table."""
    console.print(*examples.copy([examples.find_config(name) for name in names], output), sep="\n")


@app.command()
def notebooks(output: _Output = Path("molformer-examples")) -> None:
    """Copy the notebooks, with the data and configs that they use."""
    sources = [examples.FOLDER / name for name in ("notebooks", "data", "configs")]
    console.print(*examples.copy(sources, output), sep="\n")
