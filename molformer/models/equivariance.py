"""Measured symmetry of a model: what it promises, on the weights that it has.

Letters: N nodes, B graphs, V input vectors.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from molformer.graph import GraphBatch
from molformer.models.property import PropertyModel
from molformer.so3 import random_rotation


def equivariance_error(
    model: PropertyModel, graph: GraphBatch, dtype: torch.dtype = torch.float32, rotations: int = 4
) -> dict[str, float]:
    """Largest change of each target when the molecules are turned and moved and the result is turned back.

    Input vectors turn with the molecules. Where the model is told which axis is up, turns are about this axis.

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
    if graph.features is not None:
        graph = replace(graph, features=graph.features.to(dtype))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        straight = model(graph)
        worst = dict.fromkeys(straight, 0.0)
        for _ in range(rotations):
            rotation = _rotation(model, generator).to(graph.pos)
            cell = None if graph.cell is None else graph.cell @ rotation.T
            shift = torch.randn(3, generator=generator).to(graph.pos)
            features = _turned_inputs(graph.features, rotation, model.config.input_vectors)
            turned = model(replace(graph, pos=graph.pos @ rotation.T + shift, cell=cell, features=features))
            for target in model.targets:
                expected = target.target_kind.rotated(straight[target.name], rotation)
                change = float((turned[target.name] - expected).nan_to_num().abs().max())  # a molecule has no stress
                worst[target.name] = max(worst[target.name], change / float(model.scale(target)))
    return worst


def _rotation(model: PropertyModel, generator: torch.Generator) -> Tensor:
    if model.config.symmetry_axis == "none":
        return random_rotation(generator)
    angle = 2 * torch.pi * torch.rand((), generator=generator, dtype=torch.float64)
    up = "xyz".index(model.config.symmetry_axis)
    first, second = (up + 1) % 3, (up + 2) % 3
    rotation = torch.eye(3, dtype=torch.float64)
    rotation[first, first] = rotation[second, second] = angle.cos()
    rotation[second, first], rotation[first, second] = angle.sin(), -angle.sin()
    return rotation


def _turned_inputs(features: Tensor | None, rotation: Tensor, vectors: int) -> Tensor | None:
    """Features (N, F) whose first V columns of three are vectors."""
    if features is None or not vectors:
        return features
    turned = features[:, : 3 * vectors].unflatten(1, (vectors, 3)).to(rotation.dtype) @ rotation.T
    return torch.cat([turned.flatten(1), features[:, 3 * vectors :].to(rotation.dtype)], dim=1)
