"""Locating models: shipped ones by name, model and run folders, and the Hugging Face hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from molformer.errors import ModelError

SHIPPED = Path(__file__).parent.parent / "pretrained"  # folder of the shipped models
DEFAULT = "qm9"  # name of the shipped model used by default
FALLBACK = "base"  # name of the shipped model used where the default one does not know elements or charge of a molecule

CONFIG = "config.json"
MEMBER = "member-*"  # model folders inside the folder of an ensemble

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def shipped() -> dict[str, Path]:
    """Folders of the shipped models, by name."""
    if not SHIPPED.is_dir():
        return {}
    return {path.name: path for path in sorted(SHIPPED.iterdir()) if (path / CONFIG).is_file()}


def default_model() -> str:
    """Name of the default model.

    Raises:
        ModelError: this version does not ship one.
    """
    if DEFAULT not in shipped():
        raise ModelError("this version ships no model: name one with --model FOLDER")
    return DEFAULT


def find_models(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Folders of a model or of the members of an ensemble: from a model folder, a run folder, the folder of a saved
    ensemble, the name of a shipped model or the id of one on the hub; several form an ensemble.

    Raises:
        ModelError: there is no such model.
    """
    if not isinstance(source, str | os.PathLike):
        if not len(source):
            raise ModelError("no model is named: give a model folder, a run folder or a name")
        return [folder for one in source for folder in find_models(one)]
    path, name = Path(source), os.fspath(source)
    if path.is_dir():
        return _inside(path)
    models = shipped()
    if name in models:
        return [models[name]]
    # A misspelt path of a folder is not looked up on the hub.
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not path.parent.is_dir():
        from molformer.inference.hub import download

        return _inside(download(source))
    known = f"this version ships {', '.join(models)}" if models else "this version ships none"
    raise ModelError(f"there is no model folder at '{name}', and no shipped model of that name ({known})")


def _inside(path: Path) -> list[Path]:
    """The folder itself, that of a run, or those of an ensemble."""
    for folder in (path / "model", path):
        if (folder / CONFIG).is_file():
            return [folder]
        if members := sorted(member for member in folder.glob(MEMBER) if (member / CONFIG).is_file()):
            return members
    return [path]


def describe(folder: Path) -> tuple[str, str, str]:
    """Targets, elements and number of parameters of a model.

    Raises:
        ModelError: it is damaged.
    """
    from molformer.elements import SYMBOLS
    from molformer.models.property import PropertyModel

    model = PropertyModel.load(folder)
    targets = ", ".join(f"{target.name} ({target.unit})" if target.unit else target.name for target in model.targets)
    elements = " ".join(SYMBOLS[number] for number in model.domain.elements)
    return targets, elements, f"{sum(parameter.numel() for parameter in model.parameters()):,}"
