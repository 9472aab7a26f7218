"""Which parameters are decayed, how fast each is trained, and which are frozen.

Decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101) pulls a weight towards zero. That is meant for the
matrices of linear maps and kernels; the gains of norms, biases and embeddings are left alone.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from molformer.errors import ConfigError
from molformer.models.base import Encoder
from molformer.nn import EquivariantRMSNorm, NormNonlinearity

_LEFT_ALONE = (EquivariantRMSNorm, NormNonlinearity, nn.Embedding, nn.LayerNorm)


def rate_of_step(step: int, steps: int, warmup: float, cooldown: float = 0.0) -> float:
    """Share of the learning rate that a step has: it rises, and then falls to zero.

    With a cooldown the rate stays on a plateau and falls along a line at the end (Hägele et al. 2024, arXiv
    2405.18392), which is as good as a cosine and need not know the number of steps before the end is near.

    Args:
        step: from 0.
        steps: number of them.
        warmup: share of the steps in which the rate rises.
        cooldown: share in which it falls; 0 for a cosine that begins after the warm-up.

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
    """Names of the parameters that weight decay is for.

    Args:
        module: any network; what it holds is looked at by the type of the layer that owns it.

    Example:
        >>> sorted(decayed_parameters(nn.Sequential(nn.Linear(2, 2), EquivariantRMSNorm(1, 2), nn.Embedding(3, 2))))
        ['0.weight']
    """
    return {
        name
        for name, owner, parameter in _owned(module)
        if parameter.ndim > 1 and not isinstance(owner, _LEFT_ALONE) and not name.endswith("bias")
    }


def layer_rates(module: nn.Module, encoder: float = 1.0, frozen_blocks: int = 0) -> dict[str, float]:
    """Factor on the learning rate of every parameter of a model that is fine-tuned, by name; 0 for a frozen one.

    Args:
        module: a `PropertyModel`, or anything else that holds an encoder.
        encoder: factor of what the encoder holds; everything else, such as the heads, has 1.
        frozen_blocks: first blocks of the encoder that stay as they are, and with them the embeddings of species and
            edges, which come before them; 0 freezes nothing.

    Raises:
        ConfigError: the factor is negative, or the encoder has fewer blocks.

    Example:
        >>> from molformer.models import SE3Transformer, SE3TransformerConfig
        >>> network = SE3Transformer(SE3TransformerConfig(lmax=1, channels=8, num_layers=2))
        >>> rates = layer_rates(network, encoder=0.1, frozen_blocks=1)
        >>> rates["species.weight"], rates["blocks.0.norm_1.gain"], rates["blocks.1.norm_1.gain"], rates["norm.gain"]
        (0.0, 0.0, 0.1, 0.1)
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
        embeddings = ("species.", "edges.", "inputs.", "chemistry.")
        first = [*embeddings, *(f"blocks.{index}." for index in range(frozen_blocks))]
        for name, _ in inner.named_parameters():
            frozen = frozen_blocks > 0 and name.startswith(tuple(first))
            rates[f"{prefix}.{name}" if prefix else name] = 0.0 if frozen else encoder
    return rates


def freeze(module: nn.Module, rates: Mapping[str, float]) -> None:
    """Let the parameters whose rate is 0 need no gradient, and all others need one.

    Args:
        module: what `layer_rates` was given.
        rates: what it gave.
    """
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(rates[name] > 0)


def parameter_groups(
    module: nn.Module, weight_decay: float, learning_rate: float | None = None, rates: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups of parameters for AdamW, decayed ones and others, apart for each learning rate.

    Args:
        module: the network.
        weight_decay: of the parameters that `decayed_parameters` names.
        learning_rate: of a parameter whose factor is 1; needed with `rates`.
        rates: factors by name, see `layer_rates`; parameters of factor 0 are in no group.

    Returns:
        Arguments of an optimizer: `params`, `weight_decay` and, if a learning rate is given, `lr` of each group that
        has any parameter.

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
    """Every parameter once: its name, the layer that owns it, and itself."""
    for name, parameter in module.named_parameters():
        yield name, module.get_submodule(name.rpartition(".")[0]), parameter
