"""`molformer convert`: model folders from weights of others."""

from pathlib import Path
from typing import Annotated

import typer

from molformer.cli.app import app, console

convert_app = typer.Typer(
    help="Make model folders from weights of others.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(convert_app, name="convert")


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
        f"{config.input_scalars} scalars of each atom and {config.input_edge_scalars} of each edge"
    )
