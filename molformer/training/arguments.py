"""Configs of a run from a YAML file and command-line overrides, with type checks."""

import contextlib
import difflib
import io
import json
import re
from argparse import ArgumentError
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse
from jsonargparse import ArgumentParser, Namespace

from molformer.errors import ConfigError
from molformer.examples import FOLDER, find_config
from molformer.models.config import PRESETS, SE3TransformerConfig, preset
from molformer.models.renamed import current_name, current_names
from molformer.training.config import TrainingConfig

_ENCODER_KEYS = [field.name for field in fields(SE3TransformerConfig)]
_TRAINING_KEYS = [field.name for field in fields(TrainingConfig)]
_NETWORK = {"preset", *_ENCODER_KEYS} - {"stochastic_depth", "drop_graph"}  # keys that `initial` determines
KEYS = ["preset", *_ENCODER_KEYS, *_TRAINING_KEYS]  #: all valid keys of a config
DEFAULT_PRESET = "tiny"  #: default preset, which trains within minutes on two cores
PRETRAINING: dict[str, Any] = {
    "targets": ["rdkit.MolLogP", "rdkit.TPSA"],
    "objectives": {"descriptors": 1.0, "masking": 0.1, "denoising": 0.1},
    "noise": 0.05,
    "split": [0.97, 0.03, 0.0],
    "salts": "largest",
}
"""Defaults of `molformer pretrain`."""
WITHOUT_CONFIG: dict[str, Any] = {"split_by": "auto"}
"""Defaults of a run without a YAML file; those of the config `table` come before them if the data are a table."""
TABLE = re.compile(r"\.(csv|tsv|parquet)(\.gz)?\b", re.IGNORECASE)  #: in the name of a table, or of several
CHANGEABLE = ("epochs", "patience", "device", "devices", "nodes", "workers", "wandb")
"""Keys that may be changed on resumption."""


def read_configs(
    path: str | None, overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> tuple[SE3TransformerConfig, TrainingConfig]:
    """Configs of a run.

    Args:
        path: YAML file with some of `KEYS`, the name of a config of the package, or None for the defaults.
        overrides: `--key value` or `--key=value`, in the order of a command line.
        defaults: values of keys that neither names, such as `PRETRAINING`; `WITHOUT_CONFIG` if there is no file.

    Raises:
        ConfigError: an unknown key (with a suggestion), a wrong type, or a value out of range.
    """
    values = current_names(_read_yaml(str(find_config(path)))) if path else {}
    data = values.get("data")
    if isinstance(data, str) and not Path(data).exists() and (FOLDER / data).is_file():  # the embedded data set
        values["data"] = str(FOLDER / data)
    overrides = _current_overrides(overrides)
    if defaults is None and not path:
        table = _read_yaml(str(find_config("table"))) if _names_table(overrides) else {}
        of_tables = {key: value for key, value in table.items() if key not in ("data", "targets", "run")}
        defaults = of_tables | WITHOUT_CONFIG
    return _configs(values, path, overrides, defaults or {})


def _names_table(overrides: Sequence[str]) -> bool:
    """Whether the data of a command line are a table."""
    words = [part for word in overrides for part in word.split("=", maxsplit=word.startswith("--data="))]
    return any(key == "--data" and TABLE.search(value) for key, value in pairwise(words))


def _configs(
    values: dict[str, Any], path: str | None, overrides: Sequence[str], defaults: Mapping[str, Any]
) -> tuple[SE3TransformerConfig, TrainingConfig]:
    _check_keys(values, path)
    _check_keys(dict.fromkeys(_keys(overrides)), None)
    namespace = _parse(values, overrides, defaults)
    try:
        encoder = SE3TransformerConfig(**{key: namespace[key] for key in _ENCODER_KEYS})
        training = TrainingConfig(**{key: namespace[key] for key in _TRAINING_KEYS})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None
    return encoder, training


def read_run(folder: str, overrides: Sequence[str] = ()) -> tuple[SE3TransformerConfig, TrainingConfig]:
    """Configs of a run to resume.

    Args:
        folder: the run folder.
        overrides: `--key value` for the keys that may change, see `CHANGEABLE`.

    Raises:
        ConfigError: it is not a run folder, or a key may not change.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"'{folder}' is not a run folder: it has no config.yaml")
    overrides = _current_overrides(overrides)
    for key in _keys(overrides):
        if key in KEYS and key not in CHANGEABLE:
            raise ConfigError(f"{key} cannot be changed on resumption; keys that can: {', '.join(CHANGEABLE)}")
    values = current_names(_read_yaml(str(path)), warn=False)
    if (values.get("objectives") or {}).get("descriptors"):
        values.setdefault("salts", "largest")  # of runs before there was the key
    encoder, training = _configs(values, str(path), overrides, {})
    return encoder, replace(training, run=folder)


def describe_keys() -> list[tuple[str, str, str]]:
    """Key, default and description of all settings."""
    rows = [("preset", DEFAULT_PRESET, "sizes to start from: tiny, small, base or paper; each can be set below")]
    for config in (SE3TransformerConfig, TrainingConfig):
        meanings = {parameter.arg_name: parameter.description or "" for parameter in parse(config.__doc__ or "").params}
        for item in fields(config):
            default = item.default if item.default_factory is MISSING else item.default_factory()
            rows.append((item.name, str(default), " ".join(meanings[item.name].split())))
    return rows


def _current_overrides(overrides: Sequence[str]) -> list[str]:
    return [re.sub(r"(?<=^--)\w+", lambda key: current_name(key[0], 5), text) for text in overrides]


def _keys(overrides: Sequence[str]) -> list[str]:
    return [text[2:].split("=")[0].split(".")[0] for text in overrides if text.startswith("--")]


def plain_overrides(arguments: Sequence[str]) -> list[str]:
    """Overrides from command-line arguments; --target NAME, which may be repeated, --data FILE FILE… and --no-wandb are
    translated.

    Raises:
        ConfigError: --target or --data has no name.

    Example:
        >>> plain_overrides(["--target", "gap", "--epochs", "5", "--target=homo", "--no-wandb"])
        ['--epochs', '5', '--wandb', 'off', '--targets', '["gap", "homo"]']
    """
    overrides: list[str] = []
    targets: list[str] = []
    remaining = deque(arguments)
    while remaining:
        argument = remaining.popleft()
        option, _, value = argument.partition("=")
        if option == "--target":
            value = value or (remaining.popleft() if remaining else "")
            if not value:
                raise ConfigError("--target needs the name of a label, such as --target logS")
            targets.append(value)
        elif argument == "--data":
            files = [remaining.popleft() for _ in takewhile(lambda text: not text.startswith("--"), [*remaining])]
            if not files:
                raise ConfigError("--data needs a structure store or a file of molecules")
            overrides += ["--data", files[0] if len(files) == 1 else json.dumps(files)]
        elif argument == "--no-wandb":
            overrides += ["--wandb", "off"]
        else:
            overrides.append(argument)
    return [*overrides, "--targets", json.dumps(targets)] if targets else overrides


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
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


def _parse(values: dict[str, Any], overrides: Sequence[str], defaults: Mapping[str, Any]) -> Namespace:
    parser = ArgumentParser(exit_on_error=False, prog="molformer train")
    parser.add_argument("--preset", type=str, default=DEFAULT_PRESET)
    parser.add_class_arguments(SE3TransformerConfig)
    parser.add_class_arguments(TrainingConfig)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            given = parser.parse_args(list(overrides), defaults=False).as_dict()
            chosen = values | given
            if chosen.get("initial") and (sizes := sorted(given.keys() & _NETWORK)):
                raise ConfigError(
                    f"{sizes[0]} is that of '{chosen['initial']}', from which the run starts: leave it out, or train "
                    "from new weights with --initial="
                )
            network = preset(chosen.get("preset", DEFAULT_PRESET)).to_dict()
            parser.set_defaults(network)
            return parser.parse_object({**_suitable(defaults, chosen, network["architecture"]), **chosen})
        except (ArgumentError, SystemExit) as error:
            raise ConfigError(f"bad setting: {_plain(str(error))}") from None


def _suitable(defaults: Mapping[str, Any], chosen: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The defaults that fit what was chosen of the network, given the architecture of its preset."""
    others = set()
    if "preset" in chosen:
        others = {key for key in _ENCODER_KEYS if len({getattr(config, key) for config in PRESETS.values()}) > 1}
    if chosen.keys() & _NETWORK:
        others.add("initial")  # whose network has its own sizes
    if chosen.get("architecture", architecture) == "paper":
        others |= {"molecular_graph", "hydrogens"}
    return {key: value for key, value in defaults.items() if key not in others}


def _plain(message: str) -> str:
    """A message of the parser in one line, with simplified type names."""
    message = re.sub(r"<class '(\w+)'>", r"\1", " ".join(message.split()))
    return message.replace("Parser key ", "").replace("typing.Literal", "one of ")
