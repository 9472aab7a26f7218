"""Forward pass without training: values of targets and invariant features.

Letters: n atoms, F invariant features.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from molformer.graph import GraphBatch
from molformer.models.features import invariant_features
from molformer.models.property import PropertyModel
from molformer.structure import Structure
from molformer.targets import Label

FEW_ATOMS = 64  # of a batch that uses one thread, as synchronisation would take longer than the computation


@dataclass(frozen=True, eq=False)
class Output:
    """Output of a model for one structure."""

    values: dict[str, np.ndarray]  # by target name, see `Value.value`; in the units of the model
    features: np.ndarray  # of each atom (n, F)


def run(model: PropertyModel, structures: Sequence[Structure], targets: Sequence[Label]) -> list[Output]:
    """Outputs for some targets of each structure, in order."""
    bare = [structure.annotated(labels={}) for structure in structures]
    parameter = model.encoder.species.weight
    graph = GraphBatch.from_structures(bare, parameter.dtype).to(parameter.device)
    with threads(1 if len(graph.pos) <= FEW_ATOMS else torch.get_num_threads()):
        raw, x = run_graph(model, graph, targets)
        features = invariant_features(x).cpu().numpy()
    values = {name: value.cpu().numpy() for name, value in raw.items()}
    ends = np.cumsum([len(structure) for structure in structures])
    outputs = []
    for index, (structure, end) in enumerate(zip(structures, ends.tolist(), strict=True)):
        atoms = slice(end - len(structure), end)
        mine = {target.name: values[target.name][atoms if target.per_node else index] for target in targets}
        outputs.append(Output(mine, features[atoms]))
    return outputs


def run_graph(model: PropertyModel, graph: GraphBatch, targets: Sequence[Label]) -> tuple[Mapping[str, Tensor], Tensor]:
    """Values of some targets (probabilities of classes) and features (N, M, C) of a batch on the model's device."""
    derived = model.derived
    differentiates = any(target in derived for target in targets)
    with torch.inference_mode(not differentiates), torch.no_grad():
        if differentiates:
            graph = model.differentiable(graph)
            x = model.features(graph)
            values = model.readout(x, graph)
        else:
            x = model.encoder(graph).to(model.encoder.species.weight.dtype)
            values = model.read_heads([target.name for target in targets], x, graph)
    wanted = {}
    for target in targets:
        value = values[target.name]
        wanted[target.name] = (model.probabilities(target, value) if target.is_class else value).detach()
    return wanted, x.detach()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Context in which torch uses this number of CPU threads."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
