"""From a YAML file and command-line overrides to the configs of a run, checked against their types."""

import contextlib
import difflib
import io
import re
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from molformer.errors import ConfigError
from molformer.models.config import SE3TransformerConfig, preset
from molformer.training.config import TrainingConfig

_ENCODER_KEYS = [field.name for field in fields(SE3TransformerConfig)]
_TRAINING_KEYS = [field.name for field in fields(TrainingConfig)]
KEYS = ["preset", *_ENCODER_KEYS, *_TRAINING_KEYS]
"""Every key that a config may hold."""


def read_configs(path: str | None, overrides: Sequence[str] = ()) -> tuple[SE3TransformerConfig, TrainingConfig]:
    """Configs of a run.

    Args:
        path: YAML file with some of `KEYS`, or None for the defaults.
        overrides: `--key value` or `--key=value`, in the order of a command line.

    Raises:
        ConfigError: an unknown key (with a suggestion), a wrong type, or a value out of range.
    """
    values = _read_yaml(path) if path else {}
    _check_keys(values, path)
    for argument in overrides:
        if argument.startswith("--"):
            _check_keys({argument[2:].split("=")[0].split(".")[0]: None}, None)
    namespace = _parse(values, overrides)
    try:
        encoder = SE3TransformerConfig(**{key: namespace[key] for key in _ENCODER_KEYS})
        training = TrainingConfig(**{key: namespace[key] for key in _TRAINING_KEYS})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None
    return encoder, training


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file '{path}'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file '{path}': {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold lines of the form `key: value`")
    return values


def _check_keys(values: dict[str, Any], path: str | None) -> None:
    for key in values:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(KEYS)}"
            raise ConfigError(f"{path + ': ' if path else ''}unknown key '{key}'; {hint}")


def _parse(values: dict[str, Any], overrides: Sequence[str]) -> Namespace:
    parser = ArgumentParser(exit_on_error=False, prog="molformer train")
    parser.add_argument("--preset", type=str, default="small")
    parser.add_class_arguments(SE3TransformerConfig)
    parser.add_class_arguments(TrainingConfig)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            chosen = values | parser.parse_args(list(overrides), defaults=False).as_dict()
            parser.set_defaults(preset(chosen.get("preset", "small")).to_dict())
            return parser.parse_object(chosen)
        except (ArgumentError, SystemExit) as error:
            raise ConfigError(f"bad setting: {_plain(str(error))}") from None


def _plain(message: str) -> str:
    """A parser's message in one line, with types named as a user writes them."""
    message = re.sub(r"<class '(\w+)'>", r"\1", " ".join(message.split()))
    return message.replace("Parser key ", "").replace("typing.Literal", "one of ")
