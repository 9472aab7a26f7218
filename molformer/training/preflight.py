"""Estimate of size, time and memory of a run before it starts, and advice if memory is insufficient.

A few training batches pass through the model, forward and backward, without a change of weights.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from molformer.data.datamodule import StoreDataModule
from molformer.errors import TrainingError
from molformer.graph import GraphBatch
from molformer.training.config import TrainingConfig
from molformer.training.monitor import peak_memory
from molformer.training.task import PropertyTask

_BATCHES = 4


@dataclass(frozen=True)
class Preflight:
    """Estimated cost of a run."""

    parameters: int  # number of trainable parameters
    molecules: float  # structures per step on this device
    atoms: float  # atoms per step
    edges: float  # edges per step
    memory_gb: float  # peak memory of the process or of the GPU, without the averaged weights
    epoch_seconds: float  # training time of an epoch, without validation
    replayed: bool = False  # whether steps will be replayed by CUDA graphs, and so are faster than measured

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters; {self.molecules:.0f} molecules, {self.atoms:,.0f} atoms and "
            f"{self.edges:,.0f} edges a step; about {self.memory_gb:.1f} GB and "
            f"{'at most ' * self.replayed}{_duration(self.epoch_seconds)} an epoch"
        )


def preflight(
    task: PropertyTask, data: StoreDataModule, context: AbstractContextManager[object], device: torch.device
) -> Preflight:
    """Measure a few training steps with the forward pass in a context; weights and torch's random state do not change.

    Raises:
        TrainingError: out of memory.
    """
    task.to(device).train()
    loader = data.train_dataloader()
    seconds, edges = [], []
    with torch.random.fork_rng(), context:
        batches: list[GraphBatch] = [batch.to(device) for batch in islice(loader, _BATCHES)]
        for graph in batches:
            start = time.perf_counter()
            src, _, _ = task.model.encoder.find_edges(graph)
            edges.append(len(src))
            torch.stack(list(task.losses(graph).values())).sum().backward()
            task.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    timed = seconds[1:] or seconds  # the first step warms up
    count = len(batches)
    return Preflight(
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        molecules=sum(graph.num_graphs for graph in batches) / count,
        atoms=sum(len(graph.pos) for graph in batches) / count,
        edges=sum(edges) / count,
        memory_gb=peak_memory(device),
        epoch_seconds=len(loader) * sum(timed) / len(timed),
        replayed=task.training_config.cuda_graphs and device.type == "cuda",
    )


@contextmanager
def out_of_memory_advice(config: TrainingConfig) -> Iterator[None]:
    """Context that replaces out-of-memory errors by a `TrainingError` with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if config.batch_size > 1:
            smaller = max(1, config.batch_size // 2)
            first = f"--batch_size {smaller} --accumulate {2 * config.accumulate} is the same step in half the memory"
        else:
            first = "bound a step by --batch_edges"
        raise TrainingError(
            f"out of memory: {first}; fewer channels, a lower lmax or a shorter cutoff need less too"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
