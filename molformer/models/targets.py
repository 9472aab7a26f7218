"""Requirements of target kinds on a model: heads, an energy to differentiate, and a sufficient degree of features."""

from collections.abc import Sequence
from typing import Literal, get_args

from molformer import units
from molformer.errors import ConfigError
from molformer.models.base import Encoder
from molformer.models.config import SE3TransformerConfig
from molformer.models.encoder import SE3Transformer
from molformer.models.published import PaperTransformer
from molformer.nn.readout import Head, Pooling
from molformer.targets import HeadOptions, Label

ForcesFrom = Literal["conservative", "direct"]  # minus the gradient of the energy, or a head of their own


def derived_targets(targets: Sequence[Label], forces: ForcesFrom) -> list[Label]:
    """The targets that are derivatives of an energy: stress, and forces unless they are direct.

    Example:
        >>> derived_targets([Label("f", "eV/Å", "forces"), Label("s", "GPa", "stress")], "direct")
        [Label(name='s', unit='GPa', kind='stress', classes=())]
    """
    kinds = [(target, target.target_kind) for target in targets]
    return [target for target, kind in kinds if kind.derivative and (forces == "conservative" or kind.head is None)]


def potential_of(targets: Sequence[Label]) -> Label:
    """The energy of which forces and stress are derivatives: the target `energy`, or the only extensive energy.

    Raises:
        ConfigError: there is none, or it is not clear which.
    """
    energies = [target for target in targets if target.is_energy]
    named = [target for target in energies if target.name == "energy"]
    if len(named or energies) != 1:
        raise ConfigError(
            "forces and stress are derivatives of an energy: have one extensive target in a unit of energy, or name it "
            "'energy'"
        )
    return (named or energies)[0]


def derivative_factor(potential: Label, target: Label) -> float:
    """Conversion factor from the unit of the energy per Å, or per Å³, to that of forces or stress.

    Raises:
        UnitError: the target's unit measures something else.
    """
    inside = "eV/Å" if target.target_kind.derivative == "position" else "eV/Å^3"
    return units.factor(potential.unit, "eV") * units.factor(inside, target.unit)


def check_targets(targets: Sequence[Label], config: SE3TransformerConfig, forces: ForcesFrom) -> None:
    """Check that the targets of a model are consistent.

    Raises:
        ConfigError: there are none, two of one name, two of a kind of which there is one, `lmax` is too low, or one
            of each atom or a derivative is to be had where hydrogens are no atoms.
        UnitError: forces or stress have the unit of something else.
    """
    names = [target.name for target in targets]
    if not names:
        raise ConfigError("a model needs at least one target")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"target '{min(repeated)}' is named twice")
    derivatives = [(target.target_kind.derivative, target.kind) for target in targets]
    for place, (derivative, kind) in enumerate(derivatives):
        if derivative in [earlier for earlier, _ in derivatives[:place] if earlier]:
            raise ConfigError(f"only one target can be of kind '{kind}'")
    if forces not in get_args(ForcesFrom):
        raise ConfigError(f"forces is '{forces}'; choose one of {', '.join(get_args(ForcesFrom))}")
    for target in derived_targets(targets, forces):
        derivative_factor(potential_of(targets), target)
    for target in targets:
        needed = needed_degree([target], forces)
        if config.lmax < needed:
            raise ConfigError(f"target '{target.name}' of kind '{target.kind}' needs lmax of at least {needed}")
        each = target.per_node and target.kind != "charges"
        if config.hydrogens == "implicit" and (each or target.target_kind.derivative):
            raise ConfigError(f"target '{target.name}' of kind '{target.kind}' needs all atoms: hydrogens 'explicit'")


def needed_degree(targets: Sequence[Label], forces: ForcesFrom) -> int:
    """Lowest `lmax` of features from which all targets can be read out."""
    derived = derived_targets(targets, forces)
    return max(0 if target in derived else target.target_kind.lmax for target in targets)


def new_encoder(config: SE3TransformerConfig, targets: Sequence[Label], forces: ForcesFrom) -> Encoder:
    """The encoder of a config; the output degree of `paper` is the highest that the targets need."""
    if config.architecture == "paper":
        return PaperTransformer(config, needed_degree(targets, forces))
    return SE3Transformer(config)


def module_name(name: str) -> str:
    """Name of a target's head in the state dict; names of modules have no dot and differ from all attributes."""
    return "target:" + name.replace("%", "%25").replace(".", "%2E")


def new_head(target: Label, config: SE3TransformerConfig, pooling: Pooling) -> Head:
    """The readout head of a target; for forces, that of direct forces."""
    paper = config.architecture == "paper"
    channels = (config.lmax + 1) * config.channels if paper else config.channels
    make = target.target_kind.head
    assert make is not None
    return make(HeadOptions(channels, pooling, paper, config.input_vectors, target.classes))
