"""What nodes receive through their edges, a chunk of edges at a time if there are many (see `nn.chunks`).

Letters: N nodes, E edges.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from molformer.nn.chunks import Like, Over, Receivers, by_chunks
from molformer.nn.edges import Edges

_FRAMES, _ENVELOPE, _WEIGHTS = 2, 4, 5
"""Places among the inputs of a chunk: x, at_dst, frames, features, envelope and then weights."""

_FEATURES_OF_TWO_BACKWARDS = 44
"""What autograd keeps of a layer on all edges at once if it is differentiated twice, in tensors of the size of the
senders' features; measured."""


def received(
    function: Callable[..., tuple[Tensor, ...]],
    backward: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    at_dst: Tensor,
    edges: Edges,
    weights: Sequence[Tensor],
    numbers_per_edge: int,
    min_chunk: int,
) -> Tensor:
    """Send features along edges.

    Args:
        function: from features of the senders (E, …), values at the receivers (N, …), the edges and the weights to
            what each receiver receives (N, …), and two more of the shape of the first that `backward` can use; what it
            is to know of the senders are their features, in the order of the edges. As `kept` it may be given tensors
            for those two, to be returned as they are.
        backward: from the gradient of what is received, those two or nothing, and the same arguments to the gradients
            of x, at_dst, features and weights; with `frames_too` also of frames and envelopes, in the inputs' order.
        x: features (N, …) to be sent.
        at_dst: values (N, …), of the shape of what is received.
        edges: sorted by receiver.
        weights: tensors that all edges share.
        numbers_per_edge: size of the largest tensor that the function makes of an edge.
        min_chunk: edges that are worked on together at least.

    Returns:
        (N, …).
    """
    num_inputs = _WEIGHTS + len(weights)

    def of_chunk(receivers: Receivers, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, at_dst, *of_edges = inputs[:_WEIGHTS]
        return function(x, at_dst, _edges(receivers, len(at_dst), *of_edges), *inputs[_WEIGHTS:], kept=receivers.kept)

    def backward_of_chunk(wanted: Sequence[int], receivers: Receivers, *tensors: Tensor) -> tuple[Tensor, ...]:
        x, at_dst, *of_edges = tensors[:_WEIGHTS]
        grad, *kept = tensors[num_inputs:]
        chunk, frames_too = _edges(receivers, len(at_dst), *of_edges), _FRAMES in wanted
        found = backward(grad, kept, x, at_dst, chunk, *tensors[_WEIGHTS:num_inputs], frames_too=frames_too)
        places = [place for place in range(num_inputs) if frames_too or place not in (_FRAMES, _ENVELOPE)]
        gradients = dict(zip(places, found, strict=True))
        return tuple(gradients[place] for place in wanted)

    of_edges = [edges.frames, edges.features, edges.envelope]

    def at_once() -> Tensor:
        return function(x.index_select(0, edges.src), at_dst, edges, *weights)[0]

    if torch.compiler.is_compiling() or len(chunks := edges.chunks(numbers_per_edge, min_chunk)) == 1:
        return at_once()
    of_one_feature = len(edges.src) * x[:1].nbytes
    if _differentiated_twice(edges) and edges.memory.take(_FEATURES_OF_TWO_BACKWARDS * of_one_feature):
        return at_once()
    keep = torch.is_grad_enabled() and edges.memory.take(2 * of_one_feature)
    inputs = [(x, Over.SENDERS), (at_dst, Over.RECEIVERS)]
    inputs += [(tensor, Over.EDGES) for tensor in of_edges] + [(weight, Over.ALL) for weight in weights]
    outputs, kept = [Like(Over.RECEIVERS, 1)], [Like(Over.EDGES, 0)] * 2 if keep else []
    return by_chunks(of_chunk, backward_of_chunk, chunks, edges.src, edges.dst, inputs, outputs, kept)[0]


def _differentiated_twice(edges: Edges) -> bool:
    """Whether positions have gradients: forces are trained by a second backward, for which chunks compute all again."""
    return torch.is_grad_enabled() and edges.frames.requires_grad


def _edges(receivers: Receivers, num_nodes: int, frames: Tensor, features: Tensor, envelope: Tensor) -> Edges:
    """The edges of a chunk."""
    src = torch.arange(len(receivers.dst), device=receivers.dst.device)
    return Edges(src, receivers.dst, num_nodes, frames, features, envelope, receivers.runs)
