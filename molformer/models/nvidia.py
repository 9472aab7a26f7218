"""Weights of NVIDIA's SE(3)-Transformer (DeepLearningExamples, DGLPyTorch/DrugDiscovery) as a `PaperTransformer`.

Their kernel is parametrised by the φ_J of the publication, with e3nn's 3j symbols and integral-normalised harmonics;
the one of this package in the edge frame. φ_J are mapped by an orthogonal matrix (`so3.kernel_to_frame`), which is
folded into the last layer of the radial networks, and by the relative sign of the 3j symbols for each (l, k, J).
Networks in a fused layout share one radial network among several pairs of degrees; each pair gets a copy.

Letters: k and l degrees of input and output, J = |l-k| … l+k, C channels in, D channels out, R radial functions.
"""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.errors import ModelError
from molformer.models.config import SE3TransformerConfig
from molformer.models.property import PropertyModel
from molformer.models.published import PaperTransformer
from molformer.models.published.block import LinearSelfInteraction, NormNonlinearity, PaperAttention
from molformer.models.published.pairwise import PairwiseConvolution, RadialNet
from molformer.nn.linear import DegreeLinear
from molformer.nn.readout import Pooling, ScalarHead
from molformer.so3 import kernel_to_frame
from molformer.targets import Label

E3nnVersion = Literal["0.3", "0.6"]  # with which a network was trained: signs of 3j symbols changed

# fmt: off
_SIGNS: dict[E3nnVersion, tuple[tuple[str, ...], ...]] = {
    "0.3": (
        ("+", "+", "+", "+", "+"),
        ("+", "+--", "+--", "+--", "+--"),
        ("+", "++-", "+---+", "++--+", "++--+"),
        ("+", "++-", "+--++", "+---+--", "++--+--"),
        ("+", "++-", "+--++", "+--+++-", "+---+---+"),
    ),
    "0.6": (
        ("+", "+", "+", "+", "+"),
        ("+", "+--", "++-", "++-", "++-"),
        ("+", "+--", "++--+", "++--+", "++--+"),
        ("+", "+--", "+--++", "++--+--", "++--++-"),
        ("+", "+--", "+--++", "+--++--", "++--++--+"),
    ),
}
# fmt: on
"""Sign of e3nn's 3j symbol (l, k, J) relative to this package's: [l][k], a character for each J from |l-k|."""


@dataclass(frozen=True)
class _Block:
    """One attention block, or the last convolution, among the weights: the prefix of its names."""

    prefix: str
    norm: str = ""  # prefix of the norm that follows


def load_nvidia(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights of a checkpoint; nothing but tensors and plain values is unpickled.

    Raises:
        ModelError: it cannot be read, or holds no weights.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(
            f"'{path}' is not a checkpoint that can be read safely: {str(error).splitlines()[0]}"
        ) from None
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"'{path}' holds no weights")
    return {name.removeprefix("module."): value for name, value in state.items()}


def from_nvidia(
    state: Mapping[str, Tensor],
    target: Label,
    num_heads: int = 8,
    pooling: Pooling = "max",
    mean: float = 0.0,
    std: float = 1.0,
    e3nn: E3nnVersion = "0.3",
) -> PropertyModel:
    """A model with the weights of NVIDIA's `SE3TransformerPooled`.

    It takes the inputs of that network: scalar `features` of each atom and `edge_features` of a
    graph whose edges are given.

    Args:
        state: the weights, as `load_nvidia` gives them.
        target: what is predicted, of kind intensive.
        num_heads: attention heads, which cannot be derived from the weights.
        pooling: `max` or `mean`, which cannot be derived either.
        mean: of the target on the training part; their network predicts the deviation from it.
        std: by which it divided the deviation.
        e3nn: version with which it was trained; NVIDIA's repository asks for 0.3.3.

    Raises:
        ModelError: the weights are not those of such a network.
        ConfigError: the heads do not fit.
    """
    if pooling not in ("max", "mean") or target.kind != "intensive":
        raise ModelError("NVIDIA's networks pool by 'max' or 'mean' to one intensive number")
    if e3nn not in get_args(E3nnVersion):
        raise ModelError(f"e3nn is '{e3nn}'; choose one of {', '.join(get_args(E3nnVersion))}")
    try:
        blocks, last = _blocks(state)
        config = _config(state, blocks, last, num_heads)
        model = PropertyModel(config, [target], pooling)
        _copy_all(model, state, blocks, last, e3nn)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ModelError(f"these are not the weights of NVIDIA's SE3TransformerPooled: {error}") from None
    head = model.head(target.name)
    head.set_statistics(std, torch.full_like(head.references, mean), 1.0)
    return model.eval()


def _blocks(state: Mapping[str, Tensor]) -> tuple[list[_Block], _Block]:
    """Attention blocks in order, with their norms, and the last convolution."""
    root = "transformer.graph_modules."
    numbers = sorted({int(name.removeprefix(root).split(".")[0]) for name in state if name.startswith(root)})
    blocks: list[_Block] = []
    for number in numbers[:-1]:
        prefix = f"{root}{number}."
        if f"{prefix}group_norm.weight" in state:
            blocks[-1] = _Block(blocks[-1].prefix, prefix)
        else:
            blocks.append(_Block(prefix))
    return blocks, _Block(f"{root}{numbers[-1]}.")


def _config(
    state: Mapping[str, Tensor], blocks: Sequence[_Block], last: _Block, num_heads: int
) -> SE3TransformerConfig:
    first = blocks[0].prefix
    share, features = state[f"{first}to_query.weights.0"].shape
    lmax = sum(name.startswith(f"{first}project.weights.") for name in state) - 1
    channels = state[f"{first}project.weights.0"].shape[0]
    if features > channels:
        raise ModelError(f"{features} numbers of an atom do not fit into {channels} channels")
    if lmax >= len(_SIGNS["0.3"]):
        raise ModelError(f"lmax is {lmax}; such weights can be converted up to {len(_SIGNS['0.3']) - 1}")
    if state[f"{last.prefix}to_kernel_self.0"].shape[0] != (lmax + 1) * channels:
        raise ModelError("the last convolution must have as many channels as there are degrees times channels")
    entries = [name for name in state if name.startswith(f"{first}to_key_value.") and name.endswith("net.0.weight")]
    entry = entries[0]
    radial, edge_numbers = state[entry].shape
    with_norm = f"{entry.removesuffix('0.weight')}6.weight" in state
    norms = {(True, True): "both", (True, False): "radial", (False, True): "features", (False, False): "none"}
    return SE3TransformerConfig(
        architecture="paper",
        convolution="full",
        lmax=lmax,
        channels=channels,
        num_layers=len(blocks),
        num_heads=num_heads,
        channels_div=channels // share,
        radial=radial,
        cutoff=1e4,  # so far that the envelope is 1
        input_scalars=features,
        input_edge_scalars=edge_numbers - 1,
        norms=norms[with_norm, bool(blocks[0].norm)],  # type: ignore[arg-type]
    )


@torch.no_grad()
def _copy_all(
    model: PropertyModel, state: Mapping[str, Tensor], blocks: Sequence[_Block], last: _Block, e3nn: E3nnVersion
) -> None:
    encoder = model.encoder
    assert isinstance(encoder, PaperTransformer)
    assert encoder.inputs is not None
    encoder.species.weight.zero_()
    nn.init.eye_(encoder.inputs.scalars.weight)  # the numbers of an atom are the first channels
    for block, saved in zip(encoder.blocks, blocks, strict=True):
        attention, interaction, norm = block.attention, block.interaction, block.norm
        assert isinstance(attention, PaperAttention)
        assert isinstance(interaction, LinearSelfInteraction)
        share = attention.share
        _copy_convolution(attention.convolution, state, f"{saved.prefix}to_key_value.", e3nn)
        for degree, matrix in enumerate(attention.query.weight):
            _fill(matrix, state[f"{saved.prefix}to_query.weights.{degree}"].T)
        for degree, matrix in enumerate(interaction.received.weight):
            project = state[f"{saved.prefix}project.weights.{degree}"].T  # (D + C, C)
            matrix.copy_(project[:share])
            if degree < len(interaction.own.weight):
                _fill(interaction.own.weight[degree], project[share:])
        if isinstance(norm, NormNonlinearity):
            norm.gain.copy_(state[f"{saved.norm}group_norm.weight"].view_as(norm.gain))
            norm.bias.copy_(state[f"{saved.norm}group_norm.bias"].view_as(norm.bias))
    _copy_convolution(encoder.final, state, last.prefix, e3nn)
    assert isinstance(encoder.final_self, DegreeLinear)
    encoder.final_self.weight[0].copy_(state[f"{last.prefix}to_kernel_self.0"].T)
    head = model.head(model.targets[0].name)
    assert isinstance(head, ScalarHead)
    for layer in (0, 2):
        for name in ("weight", "bias"):
            getattr(head.net[layer], name).copy_(state[f"mlp.{layer}.{name}"])


def _fill(matrix: Tensor, saved: Tensor) -> None:
    """Copy rows; what the saved matrix has fewer of are channels that are zero."""
    matrix.zero_()[: len(saved)] = saved


def _copy_convolution(
    convolution: PairwiseConvolution, state: Mapping[str, Tensor], prefix: str, e3nn: E3nnVersion
) -> None:
    for (k, degree), net, phi in _pairs(convolution, state, prefix):
        radial, weight = convolution.radial[f"{k},{degree}"], convolution.weights[f"{k},{degree}"]
        assert isinstance(radial, RadialNet)
        with_norm = f"{net}6.weight" in state
        layers = [(0, 0), (1, 1), (3, 3), (4, 4)] if with_norm else [(0, 0), (3, 2)]
        for layer, saved in layers:
            radial[layer].load_state_dict({part: state[f"{net}{saved}.{part}"] for part in ("weight", "bias")})
        signs = torch.tensor([1.0 if sign == "+" else -1.0 for sign in _SIGNS[e3nn][degree][k]], dtype=torch.float64)
        fold = torch.as_tensor(kernel_to_frame(degree, k)) * signs
        if not (k == degree == 0 and "conv.0,0." in net):  # a network for this pair alone does without Y_00
            fold /= sqrt(4 * pi)
        fold[1:] /= sqrt(2)
        numbers = torch.einsum("nj,dcjr->nrcd", fold, phi.double())
        absent = weight.shape[1] // numbers.shape[1] - numbers.shape[2]  # channels that only this network has
        weight.copy_(functional.pad(numbers, (0, 0, 0, absent)).flatten(1, 2))


def _pairs(
    convolution: PairwiseConvolution, state: Mapping[str, Tensor], prefix: str
) -> Iterator[tuple[tuple[int, int], str, Tensor]]:
    """Each pair of degrees, where its radial network is among the weights, and its φ (D, C, J, R)."""
    members: dict[str, list[tuple[int, int]]] = {}
    for k, degree in sorted(convolution.pairs, key=lambda pair: pair[::-1]):  # in the order of the fused layouts
        # One network for each pair, for each degree of the output, or for all.
        layouts = (f"conv.{k},{degree}.", f"conv_out.{degree}.", "conv.")
        nets = [f"{prefix}{layout}radial_func.net." for layout in layouts]
        found = next((net for net in nets if f"{net}0.weight" in state), None)
        if found is None:
            raise ModelError(f"there is no radial network from degree {k} to {degree} in '{prefix}'")
        members.setdefault(found, []).append((k, degree))
    for net, pairs in members.items():
        matrix = state.get(f"{net}6.weight", state.get(f"{net}4.weight"))  # (D·C·ΣJ, R)
        if matrix is None:
            raise ModelError(f"the radial network '{net}' has no last layer")
        sizes = [2 * min(pair) + 1 for pair in pairs]
        out_channels = convolution.weights["{},{}".format(*pairs[0])].shape[2]
        phi = matrix.unflatten(0, (out_channels, -1, sum(sizes)))
        for pair, part in zip(pairs, phi.split(sizes, dim=2), strict=True):
            yield pair, net, part
