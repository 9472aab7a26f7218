"""One measurement of this package, asked for and answered as `peers.protocol` says.

Options of a request: `config`, the values of an SE3TransformerConfig, or `preset`; `kernel`, the name of one of
`KERNELS`; in place of molecules, `cloud`, a cloud of points with neighbours by number: {"points": …, "neighbours": …}.
"""

from importlib.metadata import version

import torch
from torch import Tensor

from benchmarks.peers import contest, protocol
from molformer.data.structure import Label, Structure
from molformer.graph import GraphBatch, knn_edges
from molformer.kernels import dispatch, memory
from molformer.models import PropertyModel, SE3TransformerConfig, preset
from molformer.nn import Edges, SE3Attention
from molformer.nn.attention import AttentionKernel, attend

ENERGY, FORCES = Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")


def chunked(saved: bool) -> AttentionKernel:
    """The memory kernel with chunks of the dispatcher's size, whatever the number of edges."""

    def kernel(layer: SE3Attention, queries: Tensor, sent: Tensor, edges: Edges) -> Tensor:
        memory.SAVED_NUMEL = 1 << 40 if saved else 0
        size = dispatch.chunk_size(layer, sent.device.type)
        return memory.chunked(layer, queries, sent, edges, size)

    return kernel


KERNELS: dict[str, AttentionKernel] = {
    "reference": attend,
    "memory": chunked(saved=True),
    "memory, nothing saved": chunked(saved=False),
    "dispatcher": dispatch.Dispatcher(),
}
"""Kernels by name."""


def build(request: protocol.Request) -> protocol.Work:
    """The model with one scalar a graph, and forces if asked for; molecules get their edges in the forward."""
    options = request.options
    graph = cloud(**options["cloud"]) if "cloud" in options else molecules(request)
    targets = [ENERGY, FORCES] if request.mode == "forces" else [ENERGY]
    model = PropertyModel(config_of(options), targets)
    if "kernel" in options:
        for layer in model.modules():
            if isinstance(layer, SE3Attention):
                layer.kernel = KERNELS[options["kernel"]]
    parameters = sum(parameter.numel() for parameter in model.parameters())

    def energies() -> Tensor:
        return model(graph)["energy"]

    def forces_step() -> None:
        model.zero_grad(set_to_none=True)
        values = model(graph)
        ((values["energy"] - 1).square().mean() + (values["forces"] - 1).square().mean()).backward()

    steps = {
        "forward": protocol.forward_step(energies),
        "training": protocol.training_step(energies, model),
        "forces": forces_step,
    }
    model.train(request.mode != "forward")
    return protocol.Work(steps[request.mode], parameters, version("molformer"))


def config_of(options: dict[str, object]) -> SE3TransformerConfig:
    """The configuration that a request names or gives."""
    if "preset" in options:
        return preset(str(options["preset"]))
    return SE3TransformerConfig(**options["config"])  # type: ignore[arg-type]


def molecules(request: protocol.Request) -> GraphBatch:
    """The molecules that every package gets."""
    numbers, pos = protocol.molecules(request)
    return GraphBatch.from_structures([Structure(z, xyz) for z, xyz in zip(numbers, pos, strict=True)])


def cloud(points: int, neighbours: int, spacing: float = 2.0) -> GraphBatch:
    """Points drawn in a cube, each with messages from its nearest neighbours.

    Args:
        points: number of nodes.
        neighbours: edges into each node.
        spacing: Å, the side of the cube that each point has to itself.
    """
    generator = torch.Generator().manual_seed(0)
    pos = spacing * points ** (1 / 3) * torch.rand(points, 3, generator=generator)
    graph = GraphBatch.from_structures([Structure(torch.full((points,), 6).numpy(), pos.numpy())])
    graph.src, graph.dst = knn_edges(graph.pos, graph.ptr, neighbours)
    return graph


def network(options: dict[str, object]) -> "contest.Network":
    """A model for a contest, with an intensive label; options as of a request."""
    model = PropertyModel(config_of(options), [Label("label", "", "intensive")])

    def values(numbers: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        sizes = torch.bincount(batch)
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return model(GraphBatch(numbers, pos, ptr, batch, torch.zeros(len(sizes))))["label"]

    return model, values


if __name__ == "__main__":
    contest.answer(network, build)
