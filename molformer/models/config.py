"""Hyperparameters of an SE(3)-Transformer, and presets of them."""

from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Literal, TypeVar

from molformer.errors import ConfigError, check_choices
from molformer.nn.so2 import Group
from molformer.so3.components import MAX_LMAX

ConvolutionName = Literal["separable", "full"]
Axis = Literal["none", "x", "y", "z"]
Architecture = Literal["pre-norm", "paper"]
SelfInteraction = Literal["linear", "attentive"]
Norms = Literal["both", "radial", "features", "none"]
Hydrogens = Literal["explicit", "implicit"]
Config = TypeVar("Config")


def _accept_renamed(config: type[Config]) -> type[Config]:
    """Have a config accept earlier names of its keys, as arguments and as attributes."""
    create = config.__init__

    @wraps(create)
    def __init__(self: Config, *args: Any, **values: Any) -> None:
        from molformer.models.renamed import current_names

        create(self, *args, **current_names(values))

    def __getattr__(self: Config, name: str) -> Any:
        from molformer.models.renamed import RENAMED, current_name

        if name not in RENAMED:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        return getattr(self, current_name(name))

    config.__init__ = __init__  # type: ignore[method-assign, assignment]
    config.__getattr__ = __getattr__  # type: ignore[attr-defined]
    return config


@_accept_renamed
@dataclass(frozen=True)
class SE3TransformerConfig:
    """Size and symmetry of an encoder.

    Args:
        lmax: highest degree of the features; typically 1 to 3, at most 6.
        channels: channels of each degree; 16 to 256.
        num_layers: Transformer blocks; 2 to 12.
        num_heads: attention heads, a divisor of the channels of keys and values.
        message_channels: channels of keys and values, 0 for as many as `channels`. There are many more edges than
            nodes, so that narrow messages allow wider nodes at the same cost.
        qk_norm: normalise queries and keys, which prevents saturated attention at high learning rates.
        cutoff: radius of the graph, Å; 4 to 6.
        max_neighbors: number of nearest neighbors within the cutoff that a node attends to, 0 for all; for clouds of
            uneven density. Outputs are then discontinuous where the order of neighbors changes. Not for periodic
            structures.
        basis_size: Bessel functions of the edge length; 8 to 32.
        edge_features: width of the radial network; 32 to 128.
        feed_forward: hidden channels of the feed-forward network, as a multiple of `channels`.
        convolution: `separable` (fast) or `full` (the paper's kernel).
        radial: radial functions that the `full` kernel combines; 16 to 64.
        group: symmetry group; `SE(3)` distinguishes enantiomers, `E(3)` does not and costs less.
        input_vectors: vector input features of each node, such as a velocity or a normal: the first columns of the
            structures' features, three for each.
        input_scalars: scalar input features of each node, such as a charge or a colour: the next columns.
        symmetry_axis: axis whose unit vector is an input feature of all nodes, `x`, `y` or `z`: the model then
            distinguishes upright from lying objects, and is equivariant under rotations about this axis only. `none`
            for molecules.
        center: whether the vector from the centroid of its graph is an input feature of each node, for clouds that are
            wider than the receptive field. Not for periodic structures.
        input_edge_scalars: scalar input features of each edge, given with the graph; for `paper` only.
        architecture: `pre-norm`, a residual stream with feed-forward networks; or `paper`, the published network, which
            takes its sizes from here but neither basis, edge network nor feed-forward.
        channels_div: keys and values of `paper` have `channels` / `channels_div` channels.
        self_interaction: of `paper`, `linear` or `attentive`.
        norms: of `paper`, layer norms in the `radial` networks, norm nonlinearity of the `features`, `both` or `none`.
        stochastic_depth: probability that the attention, or the feed-forward, of the last block is skipped for a
            molecule in a training step; it increases linearly from the first block. 0 to 0.3.
        molecular_graph: whether bonds and chemistry of the atoms (formal charge, hybridisation, aromaticity, attached
            hydrogens, smallest ring and, under SE(3), chirality) are inputs; structures without a graph are taken too.
        drop_graph: probability that a structure loses its molecular graph in a step of training, so that the model also
            learns to do without. 0 to 0.5.
        hydrogens: `explicit`, or `implicit`: heavy atoms alone, whose attached hydrogens the molecular graph counts.
            Several times faster; for properties of whole molecules with bonds.
        charge_and_spin: whether total charge and multiplicity are inputs of every node, for ions and radicals.

    Raises:
        ConfigError: a value is out of range; the message names it.
    """

    lmax: int = 2
    channels: int = 64
    num_layers: int = 4
    num_heads: int = 8
    message_channels: int = 0
    qk_norm: bool = False
    cutoff: float = 5.0
    max_neighbors: int = 0
    basis_size: int = 16
    edge_features: int = 64
    feed_forward: int = 2
    convolution: ConvolutionName = "separable"
    radial: int = 32
    group: Group = "SE(3)"
    input_vectors: int = 0
    input_scalars: int = 0
    symmetry_axis: Axis = "none"
    center: bool = False
    input_edge_scalars: int = 0
    architecture: Architecture = "pre-norm"
    channels_div: int = 2
    self_interaction: SelfInteraction = "linear"
    norms: Norms = "both"
    stochastic_depth: float = 0.0
    molecular_graph: bool = False
    drop_graph: float = 0.0
    hydrogens: Hydrogens = "explicit"
    charge_and_spin: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.lmax <= MAX_LMAX:
            raise ConfigError(f"lmax is {self.lmax}; choose 0 to {MAX_LMAX}")
        counts = ("channels", "num_layers", "num_heads", "basis_size", "edge_features", "feed_forward", "radial")
        for name in (*counts, "channels_div"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("input_vectors", "input_scalars", "input_edge_scalars", "max_neighbors"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.all_vectors and self.lmax < 1:
            raise ConfigError("input vectors, `symmetry_axis` and `center` need lmax of at least 1")
        if self.message_channels < 0:
            raise ConfigError(f"message_channels is {self.message_channels}; use 0 for as many as channels")
        if self.attended % self.num_heads:
            name = "message_channels" if self.message_channels else "channels"
            raise ConfigError(
                f"{name} ({self.attended}) must be a multiple of num_heads ({self.num_heads}): "
                "every head takes the same share"
            )
        if self.architecture == "paper" and self.channels % (self.channels_div * self.num_heads):
            raise ConfigError(
                f"channels ({self.channels}) must be a multiple of channels_div · num_heads ({self.channels_div} · "
                f"{self.num_heads}): every head takes the same share of the keys"
            )
        if self.architecture == "paper" and (self.message_channels or self.qk_norm):
            raise ConfigError("message_channels and qk_norm are not for architecture 'paper': it has `channels_div`")
        if self.input_edge_scalars and self.architecture != "paper":
            raise ConfigError("input_edge_scalars are for architecture 'paper'")
        if not self.cutoff > 0:
            raise ConfigError(f"cutoff is {self.cutoff} Å; it must be positive")
        if not 0 <= self.stochastic_depth < 1:
            raise ConfigError(f"stochastic_depth is {self.stochastic_depth}; it is a probability, from 0 to below 1")
        if self.molecular_graph and self.architecture == "paper":
            raise ConfigError("molecular_graph is not for architecture 'paper': its edges take `input_edge_scalars`")
        if not 0 <= self.drop_graph <= 1 or (self.drop_graph and not self.molecular_graph):
            raise ConfigError(f"drop_graph is {self.drop_graph}; use a probability, with molecular_graph, or 0")
        if self.hydrogens == "implicit" and not self.molecular_graph:
            raise ConfigError("hydrogens 'implicit' needs molecular_graph, which counts those of each atom")
        check_choices(self)

    @property
    def all_vectors(self) -> int:
        """Number of vector input features of a node, with those of `symmetry_axis` and `center`."""
        return self.input_vectors + (self.symmetry_axis != "none") + self.center

    @property
    def attended(self) -> int:
        """Channels of keys and values."""
        return self.message_channels or self.channels

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        return asdict(self)


PRESETS = {
    "tiny": SE3TransformerConfig(lmax=1, channels=32, num_layers=3, num_heads=4, edge_features=32),
    "small": SE3TransformerConfig(lmax=2, channels=64, num_layers=4, num_heads=8, message_channels=16, qk_norm=True),
    "base": SE3TransformerConfig(lmax=3, channels=128, num_layers=6, num_heads=8, edge_features=128),
    "paper": SE3TransformerConfig(
        architecture="paper", lmax=3, channels=32, num_layers=7, num_heads=8, convolution="full"
    ),
}
"""Configurations by name: `tiny` trains in minutes on a laptop, `base` wants a GPU, `paper` is as published."""


def preset(name: str) -> SE3TransformerConfig:
    """A configuration by its name.

    Raises:
        ConfigError: there is no such preset.

    Example:
        >>> preset("small").channels
        64
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset '{name}'; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
