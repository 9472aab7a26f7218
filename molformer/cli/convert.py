"""`molformer convert`: model folders from weights of other implementations."""

from pathlib import Path
from typing import Annotated

import typer

from molformer.cli.app import app, console

convert_app = typer.Typer(
    help="Convert weights of other implementations to model folders.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(convert_app, name="convert")


@convert_app.command()
def nvidia(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of NVIDIA's training script (.pth).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    target: Annotated[str, typer.Option("--target", "-t", help="Its target: NAME=intensive,UNIT.")] = (
        "homo=intensive,eV"
    ),
    heads: Annotated[int, typer.Option(help="Number of attention heads; not stored in the weights.")] = 8,
    pooling: Annotated[str, typer.Option(help="max or mean (avg there); not stored in the weights.")] = "max",
    mean: Annotated[float, typer.Option(help="Mean of the target on the training part.")] = 0.0,
    std: Annotated[float, typer.Option(help="Standard deviation used for normalisation.")] = 1.0,
    e3nn: Annotated[str, typer.Option(help="Version used for training, 0.3 or 0.6; sign conventions differ.")] = "0.3",
) -> None:
    """Convert to a model of architecture `paper` the weights of NVIDIA's SE(3)-Transformer for QM9.

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
        f"{config.input_scalars} scalars of each atom and {config.input_edge_scalars} of each edge"
    )
