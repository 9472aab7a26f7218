"""PropertyModel: an encoder and one head for each target; what is trained, saved and used to predict.

The folder it is saved to holds `model.safetensors` and `config.json`; nothing in it is ever unpickled.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from molformer import units
from molformer.data.graph import GraphBatch
from molformer.data.structure import Label
from molformer.errors import ConfigError, ModelError
from molformer.models.config import SE3TransformerConfig
from molformer.models.encoder import SE3Transformer
from molformer.nn.readout import (
    AtomHead,
    ChargesHead,
    ClassHead,
    ExtensiveHead,
    Head,
    Pooling,
    ScalarHead,
    TensorHead,
    VectorHead,
)
from molformer.version import __version__

FORMAT = 1
"""Version of the model folder; what is newer is refused."""


@dataclass(frozen=True)
class Domain:
    """What a model was trained on.

    Args:
        elements: atomic numbers that occurred.
        max_atoms: size of the largest structure.
        geometries: where the geometries came from, by `Structure.geometry`.
    """

    elements: tuple[int, ...] = ()
    max_atoms: int = 0
    geometries: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON and checkpoints."""
        return {
            "elements": list(self.elements),
            "max_atoms": self.max_atoms,
            "geometries": list(self.geometries),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(tuple(values["elements"]), int(values["max_atoms"]), tuple(values["geometries"]))


class PropertyModel(nn.Module):
    """Predicts the targets of a batch of graphs in their units.

    Args:
        config: of the encoder.
        targets: name, unit and kind of each target; `forces` are minus the gradient of the `potential`.
        pooling: how intensive targets are read out, `mean` or `attention`.
        domain: what it was trained on.

    Raises:
        ConfigError: the targets contradict each other.

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
    ) -> None:
        super().__init__()
        self.config = config
        self.targets = tuple(targets)
        self.pooling = pooling
        self.domain = domain or Domain()
        self._check_targets()
        self.encoder = SE3Transformer(config)
        heads = {_key(target.name): _head(target, config, pooling) for target in targets if target.kind != "forces"}
        self.heads: nn.ModuleDict = nn.ModuleDict(heads)

    def forward(self, graph: GraphBatch) -> dict[str, Tensor]:
        """Values of every target, in its unit.

        Args:
            graph: N nodes of B graphs, positions in Å.

        Returns:
            By target name: (B,) for scalars, (B, 3) for vectors, (B, 3, 3) for tensors, (N,) for charges and other
            values per atom, (N, 3) for forces; logits (B,) for binary targets and (B, K) for categories, which
            `probabilities` turns into what they mean.
        """
        forces = next((target for target in self.targets if target.kind == "forces"), None)
        if forces is None:
            return self._values(graph)
        with torch.enable_grad():
            pos = graph.pos if graph.pos.requires_grad else graph.pos.detach().requires_grad_()
            values = self._values(replace(graph, pos=pos))
            energy = values[self.potential.name]
            gradient = torch.autograd.grad(energy.sum(), pos, create_graph=self.training)[0]
        values[forces.name] = -gradient * self._force_factor(forces)
        return values

    @property
    def predicted(self) -> list[str]:
        """Names of the targets that have a head of their own: all but forces."""
        return [target.name for target in self.targets if target.kind != "forces"]

    @property
    def potential(self) -> Label:
        """The target whose gradient the forces are: `energy`, or else the only extensive energy.

        Raises:
            ConfigError: there is none, or it is not clear which.
        """
        energies = [t for t in self.targets if t.kind == "extensive" and units.dimension(t.unit) == "energy"]
        named = [target for target in energies if target.name == "energy"]
        if len(named or energies) != 1:
            raise ConfigError(
                "forces are minus the gradient of an energy: have one extensive target in a unit of energy, or name "
                "it 'energy'"
            )
        return (named or energies)[0]

    def _force_factor(self, forces: Label) -> float:
        """From the energy's unit per Å to the forces' unit."""
        return units.factor(self.potential.unit, "eV") * units.factor("eV/Å", forces.unit)

    def _values(self, graph: GraphBatch) -> dict[str, Tensor]:
        x = self.encoder(graph)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.encoder.species.weight.dtype)
            return {name: self.head(name)(x, graph) for name in self.predicted}

    @staticmethod
    def probabilities(target: Label, logits: Tensor) -> Tensor:
        """Probability of 1 (B,) of a binary target, or of each class (B, K) of a category."""
        return logits.sigmoid() if target.kind == "binary" else logits.softmax(-1)

    def scale(self, target: Label) -> Tensor:
        """Typical deviation of a target from its references, in its unit; forces take the energy's per atom."""
        if target.kind == "forces":
            energy = self.head(self.potential.name)
            return energy.scale / energy.size.sqrt() * self._force_factor(target)
        return self.head(target.name).scale

    def head(self, name: str) -> Head:
        """The head of a target."""
        head = self.heads[_key(name)]
        assert isinstance(head, Head)
        return head

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder; each file appears whole or not at all.

        Raises:
            ModelError: the folder cannot be written.
        """
        folder = Path(folder)
        config = {
            "format": FORMAT,
            "molformer": __version__,
            "encoder": self.config.to_dict(),
            "targets": [target.to_dict() for target in self.targets],
            "pooling": self.pooling,
            "domain": self.domain.to_dict(),
        }
        weights, text = folder / ".model.safetensors.part", folder / ".config.json.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            text.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            weights.write_bytes(save({key: value.contiguous() for key, value in self.state_dict().items()}))
            os.replace(text, folder / "config.json")
            os.replace(weights, folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot write the model folder '{folder}': {error}") from None

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a model folder.

        Raises:
            ModelError: it is missing, incomplete, damaged or of a newer format.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"there is no model folder at '{folder}'")
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ModelError(f"'{folder}' is not a model folder: it has no {name}")
        config = _read_config(folder / "config.json")
        try:
            model = cls(
                SE3TransformerConfig(**config["encoder"]),
                [Label(**target) for target in config["targets"]],
                config["pooling"],
                Domain.from_dict(config["domain"]),
            )
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"the model folder '{folder}' is damaged or does not fit its config: {reason}") from None
        return model.eval()

    def _check_targets(self) -> None:
        names = [target.name for target in self.targets]
        if not names:
            raise ConfigError("a model needs at least one target")
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"target '{min(repeated)}' is named twice")
        kinds = {target.name: target.kind for target in self.targets}
        if list(kinds.values()).count("forces") > 1:
            raise ConfigError("only one target can be of kind 'forces'")
        if "forces" in kinds.values():
            self._force_factor(next(target for target in self.targets if target.kind == "forces"))
        for name, kind in kinds.items():
            needed = {"vector": 1, "tensor": 2}.get(kind, 0)
            if self.config.lmax < needed:
                raise ConfigError(f"target '{name}' is a {kind}, which needs lmax of at least {needed}")


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: it is not `auto`, `cpu` or `cuda`, or there is no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device is '{device}'; choose one of auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda' but torch finds no GPU here: use cpu, or a torch build with CUDA")


def _key(name: str) -> str:
    """Name of a target's head among the weights; a module's name may hold no dot and be no attribute."""
    return "target:" + name.replace("%", "%25").replace(".", "%2E")


def _head(target: Label, config: SE3TransformerConfig, pooling: Pooling) -> Head:
    if target.kind == "intensive":
        return ScalarHead(config.channels, pooling)
    if target.kind == "extensive":
        return ExtensiveHead(config.channels)
    if target.kind in ("binary", "category"):
        return ClassHead(config.channels, max(1, len(target.classes)), pooling)
    heads: dict[str, Callable[[int], Head]] = {
        "vector": VectorHead,
        "tensor": TensorHead,
        "charges": ChargesHead,
        "atom": AtomHead,
    }
    return heads[target.kind](config.channels)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["format"]
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"'{path}' is not the configuration of a molformer model") from None
    if version > FORMAT:
        raise ModelError(
            f"'{path}' has model format {version}, this version reads up to {FORMAT}: install a newer molformer"
        )
    return config
