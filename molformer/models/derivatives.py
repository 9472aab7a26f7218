"""Forces and stress: derivatives of the energy with respect to positions and cell, from one backward pass.

Forces are F_i = -∂E/∂r_i. A strain ε takes positions and lattice vectors r → (1 + ε) r, so that by the chain rule
    σ = (1/V) ∂E/∂ε = (1/V) (Σ_i ∂E/∂r_i ⊗ r_i + Σ_k ∂E/∂h_k ⊗ h_k),
which is symmetric because a rotation changes no energy. Sign and factor are those of ASE.
Letters: N nodes, B graphs, h_k lattice vectors, V volume of the cell.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from molformer.errors import ConfigError
from molformer.graph import GraphBatch


def differentiable(graph: GraphBatch, cell: bool) -> GraphBatch:
    """The graph with positions, and its cell if asked for, as leaves that require gradients."""
    graph = replace(graph, pos=_leaf(graph.pos))
    return replace(graph, cell=_leaf(graph.cell)) if cell and graph.cell is not None else graph


def forces_and_stress(
    energy: Tensor, graph: GraphBatch, stress: bool, create_graph: bool
) -> tuple[Tensor, Tensor | None]:
    """Forces and, if asked for, stress, from the energy (B,) of what `differentiable` returned, in one backward pass;
    with `create_graph` they can be differentiated again, as in training.

    Returns:
        Forces (N, 3), unit of the energy over Å; stress (B, 3, 3), unit of the energy over Å³, NaN for graphs that
        are not periodic in three directions, or None.

    Raises:
        ConfigError: the energy does not come from the positions of this graph.
    """
    inputs = [graph.pos]
    if stress and graph.cell is not None:
        inputs.append(graph.cell)
    if not all(value.requires_grad for value in inputs):
        raise ConfigError(
            "forces and stress are derivatives: compute features of the graph that `differentiable` gives"
        )
    gradients = torch.autograd.grad(energy.sum(), inputs, create_graph=create_graph, allow_unused=True)
    if gradients[0] is None:
        raise ConfigError("the features are not those of this graph: compute them from what `differentiable` gives")
    if not stress:
        return -gradients[0], None
    with torch.set_grad_enabled(create_graph):  # the stress depends on positions and cell directly too
        return -gradients[0], _stress(gradients, graph)


class DerivedScale(nn.Module):
    """Standard deviation of a derived target, which has no head; 0 if unknown.

    Absent from the weights of earlier versions.
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros((), dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_keep_if_absent)


def _keep_if_absent(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(state, dict)
    state.setdefault(f"{prefix}value", module.value)


def _leaf(x: Tensor) -> Tensor:
    return x if x.requires_grad else x.detach().requires_grad_()


def _stress(gradients: tuple[Tensor | None, ...], graph: GraphBatch) -> Tensor:
    if graph.cell is None or graph.pbc is None:
        return graph.pos.new_full((graph.num_graphs, 3, 3), torch.nan)
    by_pos, by_cell = (None if gradient is None else gradient.double() for gradient in gradients)
    assert by_pos is not None
    pos, cell = graph.pos.double(), graph.cell.double()
    # The gradients of a graph sum to zero: relative to its centroid, large coordinates cost no precision.
    arms = pos - graph.mean_over_graphs(pos)[graph.batch]
    virial = graph.sum_over_graphs(by_pos[:, :, None] * arms[:, None])
    if by_cell is not None:  # None if no edge crosses the cell
        virial = virial + torch.einsum("bki,bkj->bij", by_cell, cell)
    volume = (cell[:, 0] * torch.linalg.cross(cell[:, 1], cell[:, 2])).sum(-1).abs()
    periodic = graph.pbc.all(-1) & (volume > 0)
    symmetric = 0.5 * (virial + virial.transpose(1, 2)) / torch.where(periodic, volume, 1.0)[:, None, None]
    return torch.where(periodic[:, None, None], symmetric, torch.nan)
