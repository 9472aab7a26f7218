"""Logging to Weights & Biases; a resumed run continues the same W&B run.

Logged are the columns of `metrics.csv` and, at the end, the plots, a table of the molecules with the largest errors
(drawn in 2-D, and in 3-D with the geometry that was used), and the model folder as an artifact. Its lineage: the data,
and the model that the run started from, are inputs of the run; offline, where W&B takes no inputs, the data's hash is
in the metadata of the artifact. Members of an ensemble, and the folds of a cross-validation, are one group. Without a
key it logs offline; the run's id is stored in the run folder.
"""

import importlib.util
import logging
import netrc
import os
import secrets
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlparse

import numpy as np

from molformer.data.store import StructureStore
from molformer.errors import ConfigError
from molformer.inference.models import MEMBER
from molformer.training.config import WandbMode
from molformer.training.target_errors import Predicted, TargetErrors

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)

ID_FILE = "wandb_run_id"
WORST = 20  # number of molecules in the table of largest errors, for each target


def wandb_logger(folder: Path, mode: WandbMode, settings: dict[str, Any]) -> "WandbLogger | None":
    """A logger of the run that belongs to a run folder, which holds its id; None if there is to be none.

    The mode `auto` is online with a key and offline without. W&B shows the settings.

    Raises:
        ConfigError: the mode asks for W&B and it is not installed.
    """
    if mode == "off":
        return None
    if importlib.util.find_spec("wandb") is None:
        if mode != "auto":
            raise ConfigError(f"wandb is '{mode}': it needs the package, pip install 'molformer[wandb]', or --no-wandb")
        logger.info("Nothing is logged to W&B, which needs: pip install 'molformer[wandb]'")
        return None
    if mode == "auto":
        mode = "online" if _has_key() else "offline"
        if mode == "offline":
            logger.info("W&B has no key and logs offline to '%s/wandb'; `wandb login` changes that", folder)
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    path = folder / ID_FILE
    given = os.environ.get("WANDB_RUN_ID")  # by the agent of a sweep
    run_id = path.read_text().strip() if path.is_file() else given or secrets.token_hex(4)
    path.write_text(run_id + "\n")
    experiment = wandb.init(
        project="molformer",
        name=folder.name,
        id=run_id,
        dir=folder,
        mode=mode,
        resume="allow",
        config=settings,
        group=_group(folder, settings),
        settings=wandb.Settings(silent=True),
    )
    return WandbLogger(experiment=experiment)


def log_report(
    log: "WandbLogger",
    model: Path,
    plots: Sequence[Path],
    errors: Sequence[TargetErrors],
    predicted: Predicted,
    store: StructureStore,
    indices: np.ndarray,
) -> None:
    """Log the test errors, plots, molecules with the largest errors and the model folder, and finish the W&B run."""
    import wandb

    from molformer.inference.molblock import molblock  # needs RDKit, which training from a store does not

    run = log.experiment
    _log_inputs(log, store)
    for row in errors:
        run.summary[f"test/{row.target.name}"] = row.error
    run.log({f"plots/{path.stem}": wandb.Image(str(path)) for path in plots})
    for row in errors:
        if not (row.target.per_node or row.target.shape or row.target.is_class) and row.count:
            table = wandb.Table(columns=["molecule", "geometry", *WorstMolecule._fields[1:]])
            for worst in worst_molecules(row, predicted, store, indices):
                picture = _picture(worst.smiles)
                drawn = wandb.Image(picture) if picture is not None else None
                file = StringIO(molblock(store[worst.row]))
                table.add_data(drawn, wandb.Molecule(file, file_type="sdf"), *worst[1:])
            run.log({f"worst/{row.target.name}": table})
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=_facts(store))
    artifact.add_dir(str(model))
    run.log_artifact(artifact)
    wandb.finish()


class WorstMolecule(NamedTuple):
    """A structure with a large error: its row in the store, and label and prediction in the target's unit."""

    row: int
    smiles: str
    name: str
    label: float
    predicted: float
    error: float


def worst_molecules(
    row: TargetErrors, predicted: Predicted, store: StructureStore, indices: np.ndarray, count: int = WORST
) -> list[WorstMolecule]:
    """The structures with the largest errors, in descending order."""
    prediction, label = predicted.values[row.target.name]
    error = np.abs(prediction - label)
    order = np.argsort(-np.nan_to_num(error, nan=-1.0))[: min(count, row.count)]
    places = [(int(i), int(indices[i])) for i in order]
    return [
        WorstMolecule(at, store[at].smiles, store[at].name, *(float(each[i]) for each in (label, prediction, error)))
        for i, at in places
    ]


def _group(folder: Path, settings: dict[str, Any]) -> str | None:
    """Name that the runs of an ensemble, or of a cross-validation, have in common."""
    if folder.match(MEMBER):
        return folder.parent.name
    if settings.get("folds"):
        data = settings["data"] if isinstance(settings["data"], str) else settings["data"][0]
        return f"{Path(data).stem}: {settings['folds']} folds, seed {settings['seed']}"
    return None


def _facts(store: StructureStore) -> dict[str, Any]:
    return {"data": store.path.stem, **{key: store.manifest.get(key) for key in ("sha256", "structures", "source")}}


def _log_inputs(log: "WandbLogger", store: StructureStore) -> None:
    """Name the data, and the initial model if W&B knows it, as inputs of the run."""
    import wandb

    run = log.experiment
    if run.offline:
        return
    data = wandb.Artifact(f"data-{store.manifest['sha256'][:12]}", type="dataset", metadata=_facts(store))
    data.add_reference(store.path.absolute().as_uri(), checksum=False)
    run.use_artifact(data)
    initial = Path(run.config["initial"]) if run.config.get("initial") else None
    for folder in (initial, initial.parent) if initial else ():  # a run, or the model folder in one
        if (folder / ID_FILE).is_file():
            run.use_artifact(f"model-{(folder / ID_FILE).read_text().strip()}:latest")


def _picture(smiles: str) -> Any:
    """A drawing of a molecule, or None where there is no SMILES."""
    from rdkit import Chem
    from rdkit.Chem import Draw

    mol = Chem.MolFromSmiles(smiles)
    return None if not smiles or mol is None else Draw.MolToImage(mol, size=(200, 160))


def _has_key() -> bool:
    """Whether an API key is configured, without network access."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
