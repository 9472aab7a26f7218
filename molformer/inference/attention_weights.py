"""Attention weights of one molecule, by layer and head.

Letters: n atoms, E edges, L layers, H heads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molformer.errors import InputError
from molformer.graph import GraphBatch
from molformer.inference.batches import BatchRunner
from molformer.inference.sources import structure_of
from molformer.models.encoder import SE3Transformer
from molformer.nn import Edges, SE3Attention
from molformer.structure import Structure


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention weights of one molecule. Those of the edges into an atom sum to less than 1 in each head, because the
    denominator of the softmax has a constant term.
    """

    structure: Structure  # the geometry
    src: np.ndarray  # source atom of each edge (E,)
    dst: np.ndarray  # target atom of each edge (E,)
    weights: np.ndarray  # (L, E, H)

    def matrix(self, layer: int, head: int | None = None) -> np.ndarray:
        """Attention matrix (n, n) of a layer, targets as rows, sources as columns; of one head or the mean of all."""
        weights = self.weights[layer].mean(-1) if head is None else self.weights[layer, :, head]
        matrix = np.zeros((len(self.structure),) * 2)
        np.add.at(matrix, (self.dst, self.src), weights)  # images of a periodic atom add up
        return matrix

    def received(self) -> np.ndarray:
        """Attention (n,) that each atom receives from all others, the mean over layers and heads."""
        return np.bincount(self.src, self.weights.mean((0, 2)), len(self.structure))


def attention(runner: BatchRunner, molecule: Any) -> Attention:
    """Attention weights of the first model of a predictor for one molecule; see `Predictor.attention`."""
    structure = structure_of(runner, molecule)
    encoder = runner.models[0].encoder
    if not isinstance(encoder, SE3Transformer):
        raise InputError(f"attention weights are not available for architecture '{encoder.config.architecture}'")
    with torch.no_grad():
        weight = encoder.species.weight
        graph = GraphBatch.from_structures([structure], weight.dtype).to(weight.device)
        edges = encoder.embed_edges(graph)
        x, layers = encoder.embed_nodes(graph), []
        for block in encoder.blocks:
            layers.append(_weights(block.attention, block.norm_1(x), edges))  # type: ignore[arg-type, operator]
            x = block(x, edges, graph)
    src, dst = edges.src.cpu().numpy(), edges.dst.cpu().numpy()
    return Attention(structure, src, dst, torch.stack(layers).cpu().numpy())


def _weights(layer: SE3Attention, x: Tensor, edges: Edges) -> Tensor:
    """α (E, H) of features (N, M, C)."""
    keys, _ = layer.keys_and_values(layer.sender(x), edges)
    return layer.weights(layer.queries(x).index_select(0, edges.dst), keys, edges)
