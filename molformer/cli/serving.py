"""`molformer serve`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from molformer.cli.app import app, console
from molformer.errors import ConfigError

_PACKAGES = ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")  # of the extra `serve`


@app.command()
def serve(
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help="Folder, shipped name or hub id; several form an ensemble. Default: qm9."),
    ] = [],  # noqa: B006 - typer copies it
    host: Annotated[str, typer.Option(help="Network address; 0.0.0.0 accepts remote connections.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Network port; 0 for a free one.")] = 8000,
    allow_host: Annotated[
        list[str], typer.Option(help="Name in Host headers beside those of this machine; * allows any.")
    ] = [],  # noqa: B006
    processes: Annotated[int, typer.Option(help="Worker processes for conformers; -1 for all cores.")] = -1,
    batch_size: Annotated[int, typer.Option(help="Largest number of geometries in a batch.")] = 32,
    memory: Annotated[float, typer.Option(help="Memory limit of a batch, GiB.")] = 4.0,
    seconds: Annotated[float, typer.Option(help="Time limit of a request, s.")] = 60.0,
    molecules: Annotated[int, typer.Option(help="Largest number of molecules in a request.")] = 1000,
    atoms: Annotated[int, typer.Option(help="Largest number of atoms of a molecule.")] = 500,
    body: Annotated[int, typer.Option(help="Largest size of a request, MiB.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Serve predictions over HTTP: a web page at /, and an API, documented at /docs.

    Needs the extra `serve`. Ctrl-C ends it when the requests in flight are answered.
    """
    from molformer.inference.models import default_model
    from molformer.inference.predictor import Predictor

    missing = next((package for package in _PACKAGES if find_spec(package) is None), None)
    if missing:
        raise ConfigError(f"the server needs {missing}: pip install 'molformer[serve]'")
    from molformer.serving.limits import Limits
    from molformer.serving.server import serve as run
    from molformer.serving.service import Service

    sources = model or [default_model()]
    predictor = Predictor.load(sources, device, batch_size, memory)
    limits = Limits(body=body * 2**20, molecules=molecules, atoms=atoms, seconds=seconds)
    name = ", ".join(_name(source) for source in sources)
    service = Service(predictor, name, limits, processes if processes > 0 else None)
    targets = ", ".join(f"{target.name} ({target.unit})" for target in predictor.model.targets)

    def announce(address: str) -> None:
        console.print(f"Serving {name}, {targets}, at {address} (Ctrl-C ends it)")

    run(service, host, port, announce, allow_host)


def _name(source: str) -> str:
    """Display name of a model: its name, or that of its run folder."""
    path = Path(source).resolve()
    if not path.is_dir():
        return source
    return path.parent.name if path.name == "model" else path.name
