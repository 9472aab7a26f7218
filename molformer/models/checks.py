"""Measured symmetry of a model: what it promises, on the weights that it has.

Letters: N nodes, B graphs.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from molformer.data.graph import GraphBatch
from molformer.data.structure import LabelKind
from molformer.models.property import PropertyModel
from molformer.so3 import random_rotation

_VECTORS = ("vector", "forces", "atom_vector")
_MATRICES = ("tensor", "stress")


def equivariance_error(
    model: PropertyModel, graph: GraphBatch, dtype: torch.dtype = torch.float32, rotations: int = 4
) -> dict[str, float]:
    """Largest change of each target when the molecules are turned and moved and the result is turned back.

    Args:
        model: a trained model; a copy of it is used.
        graph: the molecules.
        dtype: in which the copy computes.
        rotations: how many random ones are tried.

    Returns:
        By target name: the largest difference of a component, as a share of the target's scale.
    """
    model = deepcopy(model).eval()
    for parameter in model.parameters():  # not the buffers: statistics are float64 in every model
        parameter.data = parameter.data.to(dtype)
    graph = graph.to(next(model.parameters()).device)
    graph = replace(graph, pos=graph.pos.to(dtype), cell=None if graph.cell is None else graph.cell.to(dtype))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        straight = model(graph)
        worst = dict.fromkeys(straight, 0.0)
        for _ in range(rotations):
            rotation = random_rotation(generator).to(graph.pos)
            cell = None if graph.cell is None else graph.cell @ rotation.T
            shift = torch.randn(3, generator=generator).to(graph.pos)
            turned = model(replace(graph, pos=graph.pos @ rotation.T + shift, cell=cell))
            for target in model.targets:
                expected = _turned(straight[target.name], target.kind, rotation)
                change = float((turned[target.name] - expected).nan_to_num().abs().max())  # a molecule has no stress
                worst[target.name] = max(worst[target.name], change / _scale(model, target.name))
    return worst


def _turned(value: Tensor, kind: LabelKind, rotation: Tensor) -> Tensor:
    rotation = rotation.to(value.dtype)
    if kind in _VECTORS:
        return value @ rotation.T
    if kind in _MATRICES:
        return rotation @ value @ rotation.T
    return value


def _scale(model: PropertyModel, name: str) -> float:
    target = next(target for target in model.targets if target.name == name)
    return 1.0 if target.is_class else float(model.scale(target))
