"""The model folder: `model.safetensors` and `config.json`; nothing in it is ever unpickled."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from molformer.errors import DAMAGE, ModelError
from molformer.models.config import SE3TransformerConfig
from molformer.models.renamed import current_names

FORMAT = 3
"""Version of the folder format; newer ones are refused.

New in 2 are `forces`, the encoder's `stochastic_depth`, and scales of forces and stress among the weights; where a
folder lacks them, they have defaults. New in 3 are the names in `renamed`.
"""

LARGEST = 1024
"""Sizes up to this are accepted in a config without a weight of this dimension, as for layers that are not used."""


def write_folder(folder: str | os.PathLike[str], config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write a model folder; each file appears whole or not at all.

    Args:
        folder: made if it is not there.
        config: plain values, to which the format is added.
        weights: by name.

    Raises:
        ModelError: the folder cannot be written.
    """
    folder = Path(folder)
    part, text = folder / ".model.safetensors.part", folder / ".config.json.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"format": FORMAT, **config}, indent=2, ensure_ascii=False)
        text.write_text(content + "\n", encoding="utf-8")
        part.write_bytes(save({key: value.contiguous() for key, value in weights.items()}))
        os.replace(text, folder / "config.json")
        os.replace(part, folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write the model folder '{folder}': {error}") from None


def read_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a model folder.

    Raises:
        ModelError: it is missing, incomplete, of a newer format, or a weight is not a finite number.
        SafetensorError: the weights are damaged.
        ValueError: the sizes of the config are not those of the weights; or another of `DAMAGE`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder at '{folder}'")
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"'{folder}' is not a model folder: it has no {name}")
    config = _read_config(folder / "config.json")
    config["encoder"] = current_names(config["encoder"], warn=False)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        _check_sizes(config["encoder"], {name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ModelError(f"the model folder '{folder}' has a weight '{name}' that is not a finite number")
    return config, weights


def _check_sizes(encoder: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Check types and sizes of the config against the shapes of the weights, before the network is built."""
    defaults = asdict(SE3TransformerConfig())
    sizes = {**defaults, **encoder}
    largest = max(LARGEST, *(size for shape in shapes.values() for size in shape))
    for name, default in defaults.items():
        value = sizes[name]
        if type(value) is not type(default) and not (type(default) is float and type(value) is int):
            raise ValueError(f"{name} is {value!r}, expected a value like {default!r}")
        if type(value) is int and value > largest:
            raise ValueError(f"{name} is {value}, and no weight has so large a dimension")
    layers = len({name.split(".")[2] for name in shapes if name.startswith("encoder.blocks.")})
    channels = shapes.get("encoder.species.weight", (0,))[-1]
    if (sizes["num_layers"], sizes["channels"]) != (layers, channels):
        raise ValueError(
            f"its config says {sizes['num_layers']} layers of {sizes['channels']} channels, its weights are {layers} "
            f"of {channels}"
        )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = int(config["format"])
    except DAMAGE:
        raise ModelError(f"'{path}' is not the configuration of a molformer model") from None
    if version > FORMAT:
        raise ModelError(
            f"'{path}' has model format {version}, this version reads up to {FORMAT}: install a newer molformer"
        )
    return config
