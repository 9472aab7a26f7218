"""Parameter groups: weight decay, learning rates and frozen parameters.

Decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101) applies to the matrices of linear maps and kernels,
not to gains of norms, biases and embeddings.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from molformer.errors import ConfigError
from molformer.models.base import Encoder
from molformer.models.published.block import NormNonlinearity
from molformer.nn import EquivariantRMSNorm

_EMBEDDINGS = ("species", "edges", "inputs", "chemistry")  # what precedes the first block
_LEFT_ALONE = (EquivariantRMSNorm, NormNonlinearity, nn.Embedding, nn.LayerNorm)


def rate_of_step(step: int, steps: int, warmup: float, cooldown: float = 0.0) -> float:
    """Learning rate of a step, from 0, as a fraction of the highest: warm-up in that fraction of the steps, then a
    decay.

    With a cooldown the rate is constant and decays linearly in that fraction at the end (Hägele et al. 2024, arXiv
    2405.18392), which performs like a cosine without fixing the number of steps in advance.

    Example:
        >>> [rate_of_step(step, steps=10, warmup=0.2, cooldown=0.4) for step in (0, 1, 5, 7, 9)]
        [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    if cooldown > 0:
        return min(1.0, (steps - step) / max(1, round(cooldown * steps)))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))


def decayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters with weight decay.

    Example:
        >>> sorted(decayed_parameters(nn.Sequential(nn.Linear(2, 2), EquivariantRMSNorm(1, 2), nn.Embedding(3, 2))))
        ['0.weight']
    """
    return {
        name
        for name, owner, parameter in _owned(module)
        if parameter.ndim > 1 and not isinstance(owner, _LEFT_ALONE) and not name.endswith("bias")
    }


def layer_rates(
    module: nn.Module, encoder: float = 1.0, frozen_blocks: int = 0, layer_decay: float = 1.0
) -> dict[str, float]:
    """Learning-rate factors for fine-tuning, by parameter name; 0 for frozen parameters, 1 outside of an encoder.

    Of n blocks, the last has encoder · layer_decay, block i encoder · layer_decayⁿ⁻ⁱ and the embeddings encoder ·
    layer_decayⁿ⁺¹ (Clark et al. 2020, ELECTRA, arXiv 2003.10555). With the first blocks the embeddings of species and
    edges are frozen; 0 freezes nothing.

    Raises:
        ConfigError: the factor is negative, or the encoder has fewer blocks.

    Example:
        >>> from molformer.models import SE3Transformer, SE3TransformerConfig
        >>> network = SE3Transformer(SE3TransformerConfig(lmax=1, channels=8, num_layers=2))
        >>> rates = layer_rates(network, encoder=0.1, frozen_blocks=1)
        >>> rates["species.weight"], rates["blocks.0.norm_1.gain"], rates["blocks.1.norm_1.gain"], rates["norm.gain"]
        (0.0, 0.0, 0.1, 0.1)
        >>> rates = layer_rates(network, layer_decay=0.5)
        >>> rates["species.weight"], rates["blocks.0.norm_1.gain"], rates["blocks.1.norm_1.gain"], rates["norm.gain"]
        (0.125, 0.25, 0.5, 0.5)
    """
    if encoder < 0:
        raise ConfigError(f"the encoder's learning rate is {encoder} times that of the heads; use 0 to 1")
    rates = {name: 1.0 for name, _ in module.named_parameters()}
    for prefix, inner in module.named_modules():
        if not isinstance(inner, Encoder):
            continue
        blocks = len(inner.blocks)
        if not 0 <= frozen_blocks <= blocks:
            raise ConfigError(f"{frozen_blocks} blocks are to be frozen and the encoder has {blocks}")
        for name, _ in inner.named_parameters():
            first, _, rest = name.partition(".")
            block = int(rest.partition(".")[0]) if first == "blocks" else -1 if first in _EMBEDDINGS else blocks
            rate = encoder * layer_decay ** (blocks - min(block, blocks - 1))
            rates[f"{prefix}.{name}" if prefix else name] = 0.0 if frozen_blocks and block < frozen_blocks else rate
    return rates


def freeze(module: nn.Module, rates: Mapping[str, float]) -> None:
    """Set `requires_grad` to False for parameters with factor 0, and to True for all others."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(rates[name] > 0)


def parameter_groups(
    module: nn.Module, weight_decay: float, learning_rate: float | None = None, rates: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: `params`, `weight_decay` for what `decayed_parameters` names, and `lr`, if a rate is
    given, which `rates` multiply by name, see `layer_rates`; parameters of factor 0 are in no group.

    Example:
        >>> groups = parameter_groups(nn.Linear(2, 3), weight_decay=0.01)
        >>> [([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in groups]
        [([(3, 2)], 0.01), ([(3,)], 0.0)]
    """
    assert rates is None or learning_rate is not None
    decayed = decayed_parameters(module)
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, _, parameter in _owned(module):
        factor = 1.0 if rates is None else rates[name]
        if factor > 0 and parameter.requires_grad:
            members.setdefault((factor, name in decayed), []).append(parameter)
    groups = []
    for (factor, is_decayed), parameters in sorted(members.items(), key=lambda item: item[0], reverse=True):
        rate = {} if learning_rate is None else {"lr": factor * learning_rate}
        groups.append({"params": parameters, "weight_decay": weight_decay if is_decayed else 0.0, **rate})
    return groups


def _owned(module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Name, owning layer and tensor of each parameter, without duplicates."""
    for name, parameter in module.named_parameters():
        yield name, module.get_submodule(name.rpartition(".")[0]), parameter
