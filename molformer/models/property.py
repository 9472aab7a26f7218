"""PropertyModel: an encoder with one readout head for each target.

Letters: N nodes, B graphs, M components, C channels, K classes.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Self, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from molformer.errors import DAMAGE, ConfigError, InputError, ModelError, UnitError
from molformer.graph import GraphBatch
from molformer.models.config import SE3TransformerConfig
from molformer.models.derivatives import DerivedScale, differentiable, forces_and_stress
from molformer.models.descriptors import DescriptorMLP, DescriptorReadout, DescriptorSet
from molformer.models.domain import Domain
from molformer.models.folder import read_folder, write_folder
from molformer.models.gaussian_process import GaussianProcess
from molformer.models.targets import (
    ForcesFrom,
    check_targets,
    derivative_factor,
    derived_targets,
    module_name,
    new_encoder,
    new_head,
    potential_of,
)
from molformer.nn.precision import full_precision
from molformer.nn.readout import Head, Pooling
from molformer.targets import Label
from molformer.targets.statistics import TargetStatistics
from molformer.version import __version__


class PropertyModel(nn.Module):
    """Predicts the targets of a batch of graphs, in the unit of each target.

    Args:
        config: of the encoder.
        targets: name, unit and kind of each target; a `stress` is a derivative of the `potential`.
        pooling: readout of intensive targets and classes, `mean`, `attention` or `max`.
        domain: what it was trained on.
        forces: `conservative` forces are minus the gradient of the `potential`; `direct` forces are predicted by a
            head, which needs neither an energy nor a backward pass, but does not conserve energy.
        descriptors: joined to the readout of numbers and classes of a graph.

    Raises:
        ConfigError: the targets are inconsistent.

    Example:
        >>> config = SE3TransformerConfig(lmax=1, channels=8, num_layers=1)
        >>> PropertyModel(config, [Label("gap", "eV", "intensive")]).predicted
        ['gap']
    """

    def __init__(
        self,
        config: SE3TransformerConfig,
        targets: Sequence[Label],
        pooling: Pooling = "attention",
        domain: Domain | None = None,
        forces: ForcesFrom = "conservative",
        descriptors: DescriptorSet | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.targets = tuple(targets)
        self.pooling = pooling
        self.domain = domain or Domain()
        self.forces = forces
        check_targets(self.targets, config, forces)
        self.encoder = new_encoder(config, self.targets, forces)
        with_head = [target for target in targets if target not in self.derived]
        self.heads = nn.ModuleDict({module_name(each.name): new_head(each, config, pooling) for each in with_head})
        self.scales = nn.ModuleDict({module_name(target.name): DerivedScale() for target in self.derived})
        self.descriptors: DescriptorReadout | None = None
        if descriptors and descriptors.support:
            self.descriptors = GaussianProcess(descriptors, with_head)
        elif descriptors:
            self.descriptors = DescriptorMLP(descriptors, self.encoder.out_channels, with_head, config.drop_graph)

    def forward(self, graph: GraphBatch) -> dict[str, Tensor]:
        """Values of every target, in its unit.

        Args:
            graph: N nodes of B graphs, positions in Å.

        Returns:
            By target name: (B,) for scalars, (B, 3) for vectors, (B, 3, 3) for tensors and stress (NaN where a graph
            is not periodic), (N,) for charges and other values per atom, (N, 3) for forces and other vectors per atom;
            logits (B,) for binary targets, (B, K) for categories and (N, K) for those of atoms, see `probabilities`.
        """
        graph = self.differentiable(graph)
        return self.readout(self.features(graph), graph)

    def differentiable(self, graph: GraphBatch) -> GraphBatch:
        """Input of `features` and `readout`: positions and cell require gradients if derivatives are predicted."""
        if not self.derived:
            return graph
        return differentiable(graph, cell=any(target.target_kind.derivative == "strain" for target in self.derived))

    def features(self, graph: GraphBatch) -> Tensor:
        """Equivariant node features (N, M, C) of what `differentiable` gave, the input of `readout` and further heads.

        Example:
            >>> from molformer.data.structure import Structure
            >>> config = SE3TransformerConfig(lmax=1, channels=8, num_layers=1)
            >>> model = PropertyModel(config, [Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")])
            >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
            >>> graph = model.differentiable(GraphBatch.from_structures([water]))
            >>> x = model.features(graph)
            >>> x.shape, sorted(model.readout(x, graph))
            (torch.Size([3, 4, 8]), ['energy', 'forces'])
        """
        with self._gradients():
            return self.encoder(graph).to(self.encoder.species.weight.dtype)

    def readout(self, x: Tensor, graph: GraphBatch) -> dict[str, Tensor]:
        """Values of every target, see `forward`, from the output of `features` (N, M, C) and its input.

        Raises:
            ConfigError: derivatives are predicted and the features are not those of this graph.
        """
        with self._gradients():
            with full_precision(x.device.type):
                values = self.read_heads(self.predicted, x, graph)
            if not self.derived:
                return values
            wanted = {target.target_kind.derivative: target for target in self.derived}
            energy = values[self.potential.name]
            forces, stress = forces_and_stress(energy, graph, "strain" in wanted, create_graph=self.training)
        for derivative, value in (("position", forces), ("strain", stress)):
            if derivative in wanted and value is not None:
                values[wanted[derivative].name] = value * derivative_factor(self.potential, wanted[derivative])
        return values

    def read_heads(self, names: Sequence[str], x: Tensor, graph: GraphBatch) -> dict[str, Tensor]:
        """Values of targets that have a head, by name, from the features (N, M, C) of a graph."""
        values = {name: self.head(name)(x, graph) for name in names}
        joined = {} if self.descriptors is None else self.descriptors(x, graph)
        return values | {name: values[name] + self.head(name).scale * joined[name] for name in values if name in joined}

    @property
    def derived(self) -> list[Label]:
        """The targets that are derivatives of the `potential`: stress, and forces unless they are direct."""
        return derived_targets(self.targets, self.forces)

    @property
    def predicted(self) -> list[str]:
        """Names of the targets that have a head of their own: all but the `derived` ones."""
        return [target.name for target in self.targets if target not in self.derived]

    @property
    def potential(self) -> Label:
        """The target whose derivatives forces and stress are, see `potential_of`.

        Raises:
            ConfigError: there is none, or it is not clear which.
        """
        return potential_of(self.targets)

    @property
    def descriptor_set(self) -> DescriptorSet:
        """The descriptors that it takes, which may be none."""
        return DescriptorSet() if self.descriptors is None else self.descriptors.descriptors

    @property
    def num_features(self) -> int:
        """Number of invariant features of a node, see `models.features`."""
        return self.encoder.out_channels * (self.encoder.out_lmax + 1)

    def _derived_scale(self, target: Label) -> Tensor:
        scale = self.scales[module_name(target.name)]
        assert isinstance(scale, DerivedScale)
        return scale.value

    def _gradients(self) -> AbstractContextManager[None]:
        """Enable gradients for predicted derivatives, also under `torch.no_grad`."""
        return torch.set_grad_enabled(torch.is_grad_enabled() or bool(self.derived))

    @staticmethod
    def probabilities(target: Label, logits: Tensor) -> Tensor:
        """Probability of 1 (B,) of a binary target, or of each class (B, K) or (N, K) of a category."""
        activation = target.target_kind.activation
        assert activation is not None
        return activation(logits)

    def scale(self, target: Label) -> Tensor:
        """Standard deviation of a target from its references, in its unit, by which its loss is divided.

        Conservative forces of a model of an earlier version, which has no such scale, use that of the energy.
        """
        if target not in self.derived:
            return self.head(target.name).scale
        own = self._derived_scale(target)
        if target.target_kind.derivative == "strain":
            return torch.where(own > 0, own, 1.0)
        energy = self.head(self.potential.name)
        return torch.where(own > 0, own, energy.scale / energy.size.sqrt() * derivative_factor(self.potential, target))

    def set_statistics(self, statistics: Mapping[str, TargetStatistics]) -> None:
        """Set references and scales of all heads and derivatives to those of the training part, by target name."""
        for name in self.predicted:
            found = statistics[name]
            self.head(name).set_statistics(found.scale, torch.as_tensor(found.references), found.size)
        for target in self.derived:
            self._derived_scale(target).fill_(statistics[target.name].scale)

    def start_from(self, other: "PropertyModel") -> None:
        """Copy the weights of the encoder, of the same sizes, and of matching heads of another model.

        Statistics of the targets are not copied: they are those of the training data.
        """
        self.encoder.load_state_dict(other.encoder.state_dict())
        with torch.no_grad():
            for name in self.matching_heads(other):
                ours, theirs = self.head(name).parameters(), other.head(name).parameters()
                for weight, given in zip(ours, theirs, strict=True):
                    weight.copy_(given)

    def matching_heads(self, other: "PropertyModel") -> list[str]:
        """Names of the targets that another model has too, of the same kind and with a head of the same weights.

        Their shapes depend on the pooling.
        """

        def facts(model: PropertyModel, target: Label) -> tuple[object, ...]:
            shapes = {name: weight.shape for name, weight in model.head(target.name).named_parameters()}
            return target.kind, target.classes, shapes

        theirs = {target.name: facts(other, target) for target in other.targets if target not in other.derived}
        ours = [target for target in self.targets if target not in self.derived]
        return [target.name for target in ours if theirs.get(target.name) == facts(self, target)]

    def head(self, name: str) -> Head:
        """The head of a target."""
        head = self.heads[module_name(name)]
        assert isinstance(head, Head)
        return head

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder; each file appears whole or not at all.

        Raises:
            ModelError: the folder cannot be written.
        """
        config = {
            "molformer": __version__,
            "encoder": self.config.to_dict(),
            "targets": [target.to_dict() for target in self.targets],
            "pooling": self.pooling,
            "forces": self.forces,
            "domain": self.domain.to_dict(),
            "descriptors": asdict(self.descriptor_set),
        }
        write_folder(folder, config, self.state_dict())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a model folder.

        Raises:
            ModelError: it is missing, incomplete, damaged, of a newer format, or has weights that are not finite.
        """
        try:
            config, weights = read_folder(folder)
            descriptors = DescriptorSet(**config.get("descriptors", {}))
            places = {"centre": 0, "weights": 0, "entries": -1}
            empty = torch.zeros(0, 0)
            sizes = [weights.get(f"descriptors.{name}", empty).shape[axis] for name, axis in places.items()]
            if [len(descriptors), descriptors.support, descriptors.entries] != sizes:
                raise ValueError(f"its weights are not those of {len(descriptors)} descriptors")
            model = cls(
                SE3TransformerConfig(**config["encoder"]),
                [Label(**target) for target in config["targets"]],
                config["pooling"],
                Domain.from_dict(config["domain"]),
                config.get("forces", "conservative"),
                descriptors,
            )
            if model.pooling not in get_args(Pooling):
                raise ValueError(f"pooling is '{model.pooling}', not one of {', '.join(get_args(Pooling))}")
            model.load_state_dict(weights)
        except (SafetensorError, ConfigError, InputError, UnitError, *DAMAGE) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"the model folder '{folder}' is damaged or does not fit its config: {reason}") from None
        return model.eval()


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: it is not `auto`, `cpu` or `cuda`, or there is no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device is '{device}'; choose one of auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda' but torch finds no GPU here: use cpu, or a torch build with CUDA")


def load_model(path: str | os.PathLike[str], device: str = "auto") -> PropertyModel:
    """Load the model of a model or run folder onto a device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        ModelError: there is no model, or it is damaged.
        ConfigError: there is no such device.
    """
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return PropertyModel.load(model_folder(path)).to(device)


def model_folder(path: str | os.PathLike[str]) -> Path:
    """The model folder of a run folder, or the folder itself."""
    inside = Path(path) / "model"
    return inside if (inside / "config.json").is_file() else Path(path)
