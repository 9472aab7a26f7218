"""The model folder: `model.safetensors` and `config.json`; nothing in it is ever unpickled."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from molformer.errors import ModelError

FORMAT = 2
"""Version of the folder; what is newer is refused.

New in 2 are `forces`, the encoder's `stochastic_depth`, and scales of forces and stress among the weights; where a
folder lacks them, they have defaults.
"""


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
        ModelError: it is missing, incomplete or of a newer format.
        SafetensorError: the weights are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder at '{folder}'")
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"'{folder}' is not a model folder: it has no {name}")
    return _read_config(folder / "config.json"), load_file(folder / "model.safetensors")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["format"]
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"'{path}' is not the configuration of a molformer model") from None
    if version > FORMAT:
        raise ModelError(
            f"'{path}' has model format {version}, this version reads up to {FORMAT}: install a newer molformer"
        )
    return config
