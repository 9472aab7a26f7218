"""Assembled networks and their configurations."""

from molformer.models.config import PRESETS, SE3TransformerConfig, preset
from molformer.models.domain import Domain
from molformer.models.encoder import SE3Transformer
from molformer.models.property import PropertyModel
from molformer.models.published import PaperTransformer
from molformer.models.targets import ForcesFrom
