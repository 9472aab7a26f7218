"""Several conformers of a molecule in one row of a store, and the mean of a model's outputs over them.

The first conformer has the positions of the row; the others are labels `conformer.2`, `conformer.3`, …, NaN where fewer
were made. So splits, statistics and errors count each molecule once. Letters: N nodes, B graphs, L conformers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from molformer.graph import GraphBatch
from molformer.structure import Structure
from molformer.targets import Label

CONFORMER = "conformer."  # begins the name of a label that holds the positions of a further conformer


def conformer_labels(count: int) -> list[Label]:
    """Labels of all conformers but the first."""
    return [Label(f"{CONFORMER}{number}", "Å", "atom_vector") for number in range(2, count + 1)]


def with_labels(first: Structure, others: Sequence[Structure]) -> Structure:
    """The first conformer with the positions of the others as labels."""
    positions = {f"{CONFORMER}{number}": each.pos for number, each in enumerate(others, start=2)}
    return replace(first, labels={**first.labels, **positions})


def drawn(graph: GraphBatch, generator: np.random.Generator) -> GraphBatch:
    """The batch with one conformer of each molecule, chosen at random."""
    pos, there = _conformers(graph)
    chosen = torch.from_numpy(generator.integers(there.sum(0).numpy()))
    labels = {name: value for name, value in graph.labels.items() if not name.startswith(CONFORMER)}
    return replace(graph, pos=pos[chosen[graph.batch], torch.arange(len(graph.pos))], labels=labels)


def averaged(
    values: Mapping[str, Tensor],
    graph: GraphBatch,
    predict: Callable[[GraphBatch], Mapping[str, Tensor]],
    targets: Iterable[Label],
) -> Mapping[str, Tensor]:
    """Mean of a model's outputs over the conformers of each molecule; of classes, the logits of mean probabilities.

    The values are those of the first conformers, (B,), or (B, K) of categories, `predict` gives them for other
    positions of the same batch; they are returned where there are no other conformers. Targets are scalars or classes
    of molecules.
    """
    pos, there = _conformers(graph)
    if len(pos) == 1:
        return values
    outputs = [values, *(predict(replace(graph, pos=each)) for each in pos[1:])]
    weights = (there / there.sum(0)).to(pos.dtype)  # (L, B)
    means = {}
    for target in targets:
        value = torch.stack([each[target.name] for each in outputs])
        if target.classes:
            means[target.name] = (weights.log()[..., None] + log_softmax(value, -1)).logsumexp(0)
        elif target.is_class:
            yes, no = ((weights.log() + logsigmoid(logit)).logsumexp(0) for logit in (value, -value))
            means[target.name] = yes - no
        else:
            means[target.name] = (weights * value).sum(0)
    return means


def _conformers(graph: GraphBatch) -> tuple[Tensor, Tensor]:
    """Positions (L, N, 3), of the first conformer where there is no other, and a mask of those that are (L, B)."""
    others = [value.to(graph.pos) for name, value in graph.labels.items() if name.startswith(CONFORMER)]
    pos = torch.stack([graph.pos, *others])
    there = pos[:, graph.ptr[:-1], 0].isfinite()
    return torch.where(there[:, graph.batch, None], pos, graph.pos), there
