"""Encoder: what every network from atoms and positions to features has: species, inputs, and edges to be found.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, V input vectors, S input numbers.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.elements import MAX_NUMBER
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch, knn_edges, radius_edges
from molformer.kernels import Dispatcher, Kernels, check_kernels
from molformer.models.config import SE3TransformerConfig
from molformer.nn.attention import SE3Attention
from molformer.nn.chemistry import AtomEmbedding, StateEmbedding
from molformer.nn.edges import Edges
from molformer.nn.inputs import NodeInputs
from molformer.so3.components import num_components


class Encoder(nn.Module, ABC):
    """Equivariant features of every node; `SE3Transformer` and `PaperTransformer` are such.

    Args:
        config: sizes.
    """

    blocks: nn.ModuleList
    out_lmax: int
    """Highest degree of the features that come out."""
    out_channels: int
    """Channels of the features that come out."""

    def __init__(self, config: SE3TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.species = nn.Embedding(MAX_NUMBER + 1, config.channels)
        given = config.all_vectors, config.input_numbers
        self.inputs = NodeInputs(config.lmax, *given, config.channels) if any(given) else None
        chirality = config.group == "SE(3)"
        self.chemistry = nn.ModuleList([AtomEmbedding(config.channels, chirality)] if config.molecular_graph else [])
        if config.charge_and_spin:
            self.chemistry.append(StateEmbedding(config.channels))

    @abstractmethod
    def forward(self, graph: GraphBatch, x: Tensor | None = None) -> Tensor:
        """Node features of a batch of graphs.

        Args:
            graph: nodes of B graphs, with edges or without.
            x: equivariant input features (N, M, C) to be added to those of the species.

        Returns:
            Features (N, M, C); component (l, m) at index l² + l + m.
        """

    @abstractmethod
    def embed_edges(self, graph: GraphBatch) -> Edges:
        """Frames, radial features and envelopes of all edges."""

    def embed_nodes(self, graph: GraphBatch) -> Tensor:
        """Features (N, M, C) of species and chemistry, zero but for degree 0, and of further inputs if there are."""
        scalars = self.species(graph.numbers)
        for embedding in self.chemistry:
            scalars = scalars + embedding(graph)
        x = functional.pad(scalars[:, None], (0, 0, 0, num_components(self.config.lmax) - 1))
        given = self.given(graph)
        return x if self.inputs is None or given is None else x + self.inputs(*given)

    def given(self, graph: GraphBatch) -> tuple[Tensor, Tensor] | None:
        """Vectors (N, V, 3) and numbers (N, S) that the nodes are told, None if there are none; NaN counts as 0.

        Raises:
            InputError: the structures have fewer features than the model takes.
        """
        config = self.config
        if self.inputs is None:
            return None
        given = split_inputs(graph, config.input_vectors, config.input_numbers)
        vectors, numbers = (part.to(self.species.weight.dtype).nan_to_num() for part in given)
        if config.up != "none":
            axis = vectors.new_tensor([float(name == config.up) for name in "xyz"])
            vectors = torch.cat([vectors, axis.expand(len(vectors), 1, 3)], dim=1)
        if config.centre:
            arms = graph.pos - graph.mean_over_graphs(graph.pos).index_select(0, graph.batch)
            vectors = torch.cat([vectors, arms.to(vectors.dtype)[:, None]], dim=1)
        return vectors, numbers

    def edge_vectors(self, graph: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Edges src → dst (E,), sorted by receiver, those that are given or found, and pos[dst] - pos[src] (E, 3)."""
        src, dst, shift = graph.src, graph.dst, graph.shift
        if src is None or dst is None:
            src, dst, shift = self.find_edges(graph)
        edge_vec = graph.pos.index_select(0, dst) - graph.pos.index_select(0, src)
        if shift is not None and graph.cell is not None:
            cells = graph.cell.index_select(0, graph.batch.index_select(0, src))
            edge_vec = edge_vec + torch.einsum("ei,eij->ej", shift, cells)
        return src, dst, edge_vec.to(self.species.weight.dtype)

    def use_kernels(self, kernels: Kernels) -> None:
        """Compute the attention by operations of torch, `plain`, or by fused kernels of a GPU, `triton`.

        Weights and results are the same. Where a fused kernel cannot be had, as for gradients with respect to
        positions, degrees beyond 3 or more edges than one pass takes, the plain operations stand in. `auto`, which
        holds until something else is asked for, fuses where it is possible.

        Raises:
            ConfigError: `triton` is asked for, and Triton or a GPU is missing, or this network has no such kernels.
        """
        layers = [module for module in self.modules() if isinstance(module, SE3Attention)]
        check_kernels(kernels)
        if kernels == "triton" and not layers:
            raise ConfigError(f"a network of architecture '{self.config.architecture}' has no Triton kernels")
        for layer in layers:
            layer.kernel = Dispatcher(kernels)

    def find_edges(self, graph: GraphBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The graph that the configuration wants.

        Returns:
            src (E,), dst (E,) and, where a graph is periodic, the cells that are crossed (E, 3).

        Raises:
            InputError: the nearest neighbours of a periodic structure are wanted.
        """
        if graph.cell is None or graph.pbc is None:
            if self.config.neighbours:
                return *knn_edges(graph.pos, graph.ptr, self.config.neighbours), None
            return *radius_edges(graph.pos, graph.ptr, self.config.cutoff), None
        if self.config.neighbours:
            raise InputError("a model of nearest neighbours (`neighbours`) cannot take periodic structures")
        from molformer.graph.periodic import periodic_edges

        return periodic_edges(graph.pos, graph.ptr, graph.cell, graph.pbc, self.config.cutoff)


def split_inputs(graph: GraphBatch, vectors: int, numbers: int) -> tuple[Tensor, Tensor]:
    """The columns of the features that are vectors (N, V, 3), and those after them that are numbers (N, S).

    Raises:
        InputError: there are fewer columns.
    """
    needed = 3 * vectors + numbers
    features = graph.pos.new_zeros(len(graph.pos), 0) if graph.features is None else graph.features
    if features.shape[1] < needed:
        raise InputError(
            f"the model takes {needed} features of each atom or point ({vectors} vectors, {numbers} numbers), and the "
            f"structures have {features.shape[1]}"
        )
    return features[:, : 3 * vectors].unflatten(1, (vectors, 3)), features[:, 3 * vectors : needed]
