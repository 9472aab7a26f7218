"""Configs, notebooks and the embedded data set, as they come with the package."""

import difflib
import shutil
from collections.abc import Sequence
from pathlib import Path

from molformer.errors import ConfigError

FOLDER = Path(__file__).parent
CONFIGS = FOLDER / "configs"


def config_names() -> list[str]:
    """Names of the configs, such as `table`; those of sweeps begin with `sweeps/`."""
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("**/*.yaml"))


def find_config(source: str) -> Path:
    """A config by its path, or one of the package by its name: `table`, `table.yaml` or `configs/table.yaml`."""
    if Path(source).exists() and not Path(source).is_dir():
        return Path(source)
    name = source.removeprefix("configs/").removesuffix(".yaml")
    if name in config_names():
        return CONFIGS / f"{name}.yaml"
    near = difflib.get_close_matches(name, config_names(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the package has {', '.join(config_names())}"
    raise ConfigError(f"there is no config file '{source}'; {hint}")


def copy(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Copy files and folders of the package into a folder, where none of them may be yet; where they are now."""
    copied = [folder / source.name for source in sources]
    if there := [path for path in copied if path.exists()]:
        raise ConfigError(f"'{there[0]}' is there already; remove it, or name another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    for source, path in zip(sources, copied, strict=True):
        shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)
    return copied
