"""Losses and gradients of a step as a CUDA graph: one launch instead of some thousand.

A step on a few hundred molecules is so little work for a GPU that launching its kernels takes most of the time. A CUDA
graph is recorded once and replayed. Its tensors have fixed sizes and addresses, so that batches are padded to a few
sizes by a graph without labels, in which no edge carries a message; padding changes no loss and no gradient.

Letters: N nodes, E edges, B graphs.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.kernels.autocast import Autocast

MOST_GRAPHS = 32  # number of sizes that are recorded; a batch of any other is computed without a graph
SIZES_OF_AN_OCTAVE = 32  # sizes between a number and its double: padding adds at most a 32nd part
Losses = Callable[[GraphBatch], Tensor]  # from a batch to losses (L,), of which the first is differentiated


def padded_size(count: int) -> int:
    """The next of a few sizes above a number.

    Example:
        >>> [padded_size(count) for count in (5, 64, 9200, 9215, 9216)]
        [6, 66, 9216, 9216, 9472]
    """
    step = max(1, (1 << count.bit_length() - 1) // SIZES_OF_AN_OCTAVE)
    return (count // step + 1) * step


def padded(graph: GraphBatch, nodes: int, edges: int) -> GraphBatch:
    """A batch with one more graph, which fills it up to the given numbers of nodes and edges, larger than those it has.

    Its labels are missing, and its edges have no length, so that they carry no message. The graphs are not periodic, of
    more than B+1 nodes, with edges sorted by receiver.
    """
    graphs = graph.num_graphs + 1
    rows = {len(graph.pos): nodes, graph.num_graphs: graphs, graph.num_graphs + 1: graphs + 1}

    def resized(x: Tensor, more: int | None = None) -> Tensor:
        return x.new_empty(rows[len(x)] if more is None else more, *x.shape[1:])

    assert graph.src is not None
    assert graph.dst is not None
    larger = replace(
        graph,
        **{name: resized(getattr(graph, name)) for name in ("numbers", "pos", "ptr", "batch", "charge")},
        src=resized(graph.src, edges),
        dst=resized(graph.dst, edges),
        labels={name: resized(label) for name, label in graph.labels.items()},
        features=None if graph.features is None else resized(graph.features),
    )
    write(graph, larger)
    return larger


def write(graph: GraphBatch, larger: GraphBatch) -> None:
    """Overwrite a batch that `padded` returned with another one, padded to the same size."""
    last = len(larger.pos) - 1
    padding: dict[str, float] = {"numbers": 1, "pos": 0, "ptr": last + 1, "batch": graph.num_graphs, "charge": 0}
    padding |= {"features": 0, "src": last, "dst": last}
    pairs = [(getattr(graph, name), getattr(larger, name), value) for name, value in padding.items()]
    pairs += [(label, larger.labels[name], torch.nan) for name, label in graph.labels.items()]
    for source, target, value in pairs:
        if source is not None:
            target[: len(source)].copy_(source)
            target[len(source) :].fill_(value)


@dataclass(frozen=True)
class _Recorded:
    """A CUDA graph, the batch it reads, and what it writes: losses (L,) and gradients of the first of them."""

    replay: Callable[[], None]
    graph: GraphBatch
    losses: Tensor
    gradients: Sequence[Tensor | None]


class StepGraphs:
    """Replays losses and gradients of batches on a GPU; parameters of the module must keep their addresses.

    The losses are computed with it without control flow that depends on values of tensors, which would wait for the
    GPU, and without random numbers.
    """

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        self.parameters = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self._function = _Function(module, losses)
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._pool: Any = None

    def __call__(self, graph: GraphBatch) -> Tensor:
        """Losses (L,) of a batch on the GPU, as `padded` takes it; the first can be differentiated by the parameters.

        Raises:
            ConfigError: a step cannot be recorded, because it waits for the GPU.
        """
        assert graph.dst is not None
        shape = graph.num_graphs, padded_size(len(graph.pos)), padded_size(len(graph.dst))
        if shape not in self._recorded:
            if len(self._recorded) >= MOST_GRAPHS:
                return self._function.losses(graph)
            self._recorded[shape] = self._record(padded(graph, *shape[1:]))
        recorded = self._recorded[shape]
        write(graph, recorded.graph)
        recorded.replay()
        losses: Tensor = _Replayed.apply(recorded, *self.parameters.values())
        return losses

    def _record(self, graph: GraphBatch) -> _Recorded:
        # Aliases of the parameters: autograd binds a leaf to the stream on which it is first used.
        aliases = {name: weight.detach().requires_grad_() for name, weight in self.parameters.items()}
        given = {f"module.{name}": alias for name, alias in aliases.items()}

        def step() -> tuple[Tensor, Sequence[Tensor | None]]:
            with Autocast.current("cuda").restored():  # without cached casts, which the next step would not update
                losses = functional_call(self._function, given, (graph,))
            return losses.detach(), torch.autograd.grad(losses[0], list(aliases.values()), allow_unused=True)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their kernels, which is not allowed in a recording
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        recording = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        gc.collect()
        gc.disable()  # to free what a GPU holds, such as an older graph, ends a recording
        try:
            with torch.cuda.graph(recording, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                losses, gradients = step()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"a step of this model cannot be recorded ({reason}): set cuda_graphs to false"
            ) from error
        finally:
            gc.enable()
        return _Recorded(recording.replay, graph, losses, gradients)


class _Function(nn.Module):
    """Losses as a module, so that `functional_call` can replace its parameters."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module = module
        self.losses = losses

    def forward(self, graph: GraphBatch) -> Tensor:
        return self.losses(graph)


class _Replayed(torch.autograd.Function):
    """Losses of a replay as a differentiable function of the parameters."""

    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, *_parameters: Tensor) -> Tensor:
        ctx.gradients = recorded.gradients
        return recorded.losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        there = [gradient for gradient in ctx.gradients if gradient is not None]
        scaled = iter(torch._foreach_mul(there, grad[0]))  # copies, since the next replay writes to the same place
        return None, *[None if gradient is None else next(scaled) for gradient in ctx.gradients]
