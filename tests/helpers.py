"""What several tests need: weights that are nowhere zero, random graphs, and graphs turned in space."""

from dataclasses import replace

import torch

from molformer.data.structure import Structure
from molformer.graph import GraphBatch
from molformer.models import PropertyModel, SE3TransformerConfig
from molformer.nn import EdgeEmbedding
from molformer.so3 import degree_of_component, random_rotation, wigner_matrix

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def moved(module):
    """The module with every parameter moved, so that nothing holds because a weight starts at zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def random_structure(atoms=6, spread=1.5, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([1, 6, 7, 8])[torch.randint(0, 4, (atoms,), generator=generator)]
    pos = spread * torch.randn(atoms, 3, generator=generator, dtype=torch.float64)
    return Structure(numbers.numpy(), pos.numpy(), **kwargs)


def random_graph(sizes=(6, 4), dtype=torch.float64, spread=1.5):
    structures = [random_structure(size, spread, seed) for seed, size in enumerate(sizes)]
    return GraphBatch.from_structures(structures, dtype)


def turned(graph, rotation, shift=0.0):
    return replace(graph, pos=graph.pos @ rotation.to(graph.pos).T + shift)


def rotation_and_matrix(lmax, dtype=torch.float64, seed=0):
    rotation = random_rotation(torch.Generator().manual_seed(seed))
    return rotation.to(dtype), wigner_matrix(rotation, lmax).to(dtype)


def parity(lmax, dtype=torch.float64):
    """Sign (M, 1) that each component takes under inversion."""
    return torch.tensor([(-1.0) ** degree for degree in degree_of_component(lmax)], dtype=dtype)[:, None]


def embedded_edges(graph, lmax, features=16, cutoff=5.0, seed=0):
    """Edges of a graph from an embedding whose weights depend on the seed alone."""
    from molformer.graph.neighbors import radius_edges

    torch.manual_seed(seed)
    embedding = moved(EdgeEmbedding(lmax, cutoff, basis_size=8, features=features)).to(graph.pos.dtype)
    src, dst = radius_edges(graph.pos, graph.ptr, cutoff)
    return embedding(graph.numbers, src, dst, graph.pos[dst] - graph.pos[src])


def small_config(**kwargs):
    values = {"lmax": 2, "channels": 8, "num_layers": 3, "num_heads": 2, "edge_features": 16, "basis_size": 8}
    return SE3TransformerConfig(**{**values, **kwargs})


def small_model(targets, dtype=torch.float64, **kwargs):
    return moved(PropertyModel(small_config(**kwargs), targets)).to(dtype).eval()
