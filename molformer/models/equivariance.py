"""Equivariance error of a trained model, measured by random rotations and translations.

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
    """Largest equivariance error |f(Rx + t) - R f(x)| of a component of each target, relative to its scale, over random
    rotations R and translations t of a batch of molecules, by a copy of the model in the given precision.

    Input vectors are rotated with the molecules. With a `symmetry_axis`, the rotations are about this axis.
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
        reference = model(graph)
        worst = dict.fromkeys(reference, 0.0)
        for _ in range(rotations):
            rotation = _rotation(model, generator).to(graph.pos)
            cell = None if graph.cell is None else graph.cell @ rotation.T
            shift = torch.randn(3, generator=generator).to(graph.pos)
            features = _rotated_inputs(graph.features, rotation, model.config.input_vectors)
            rotated = model(replace(graph, pos=graph.pos @ rotation.T + shift, cell=cell, features=features))
            for target in model.targets:
                expected = target.target_kind.rotated(reference[target.name], rotation)
                change = float((rotated[target.name] - expected).nan_to_num().abs().max())  # a molecule has no stress
                worst[target.name] = max(worst[target.name], change / float(model.scale(target)))
    return worst


def _rotation(model: PropertyModel, generator: torch.Generator) -> Tensor:
    if model.config.symmetry_axis == "none":
        return random_rotation(generator)
    angle = 2 * torch.pi * torch.rand((), generator=generator, dtype=torch.float64)
    axis = "xyz".index(model.config.symmetry_axis)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = torch.eye(3, dtype=torch.float64)
    rotation[first, first] = rotation[second, second] = angle.cos()
    rotation[second, first], rotation[first, second] = angle.sin(), -angle.sin()
    return rotation


def _rotated_inputs(features: Tensor | None, rotation: Tensor, vectors: int) -> Tensor | None:
    """Rotated features (N, F), of which the first 3V columns are vectors."""
    if features is None or not vectors:
        return features
    rotated = features[:, : 3 * vectors].unflatten(1, (vectors, 3)).to(rotation.dtype) @ rotation.T
    return torch.cat([rotated.flatten(1), features[:, 3 * vectors :].to(rotation.dtype)], dim=1)
