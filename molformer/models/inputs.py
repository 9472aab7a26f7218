"""What the nodes are given beside their species: vectors and scalars of the structures, an axis, their place.

Letters: N nodes, V vectors, S scalars.
"""

import torch
from torch import Tensor

from molformer.errors import InputError
from molformer.graph.batch import GraphBatch
from molformer.models.config import SE3TransformerConfig


def given_inputs(graph: GraphBatch, config: SE3TransformerConfig) -> tuple[Tensor, Tensor]:
    """Vectors (N, V, 3) and scalars (N, S) of the nodes; NaN counts as 0.

    Raises:
        InputError: the structures have fewer features than the model takes.
    """
    vectors, scalars = (part.nan_to_num() for part in split_inputs(graph, config.input_vectors, config.input_scalars))
    if config.symmetry_axis != "none":
        axis = vectors.new_tensor([float(name == config.symmetry_axis) for name in "xyz"])
        vectors = torch.cat([vectors, axis.expand(len(vectors), 1, 3)], dim=1)
    if config.center:
        arms = graph.pos - graph.mean_over_graphs(graph.pos).index_select(0, graph.batch)
        vectors = torch.cat([vectors, arms.to(vectors.dtype)[:, None]], dim=1)
    return vectors, scalars


def split_inputs(graph: GraphBatch, vectors: int, scalars: int) -> tuple[Tensor, Tensor]:
    """The columns of the features that are vectors (N, V, 3), and those after them that are scalars (N, S).

    Raises:
        InputError: there are fewer columns.
    """
    needed = 3 * vectors + scalars
    features = graph.pos.new_zeros(len(graph.pos), 0) if graph.features is None else graph.features
    if features.shape[1] < needed:
        raise InputError(
            f"the model takes {needed} features of each atom or point ({vectors} vectors, {scalars} numbers), and the "
            f"structures have {features.shape[1]}"
        )
    return features[:, : 3 * vectors].unflatten(1, (vectors, 3)), features[:, 3 * vectors : needed]
