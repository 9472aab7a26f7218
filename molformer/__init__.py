"""SE(3)-Transformers for molecules and point clouds.

>>> import molformer
>>> molformer.load("runs/quickstart").predict("CCO")  # doctest: +SKIP

Names are imported when they are first used, so that `import molformer` is immediate.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molformer.version import __version__

if TYPE_CHECKING:
    from molformer.data.store import StructureStore
    from molformer.data.structure import Label, Structure
    from molformer.inference.predictor import Prediction, Predictor
    from molformer.models.config import SE3TransformerConfig
    from molformer.models.encoder import SE3Transformer
    from molformer.models.property import PropertyModel

_HOMES = {
    "Label": "molformer.data.structure",
    "Prediction": "molformer.inference.predictor",
    "Predictor": "molformer.inference.predictor",
    "PropertyModel": "molformer.models.property",
    "SE3Transformer": "molformer.models.encoder",
    "SE3TransformerConfig": "molformer.models.config",
    "Structure": "molformer.data.structure",
    "StructureStore": "molformer.data.store",
}

__all__ = [
    "Label",
    "Prediction",
    "Predictor",
    "PropertyModel",
    "SE3Transformer",
    "SE3TransformerConfig",
    "Structure",
    "StructureStore",
    "__version__",
    "load",
]


def load(path: str, device: str = "auto") -> "Predictor":
    """A predictor from a model folder or a run folder; see `Predictor.load`."""
    from molformer.inference.predictor import Predictor

    return Predictor.load(path, device)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'molformer' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
