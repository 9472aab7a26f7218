"""mace-torch: MACE 128x0e + 128x1o with 2 layers, the default of its training program in everything else."""

import contextlib
import io
from importlib.metadata import version

import numpy as np
import torch

from benchmarks.peers import contest, protocol

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4, which MACE wants, keeps one in its file of constants
from e3nn import o3  # noqa: E402

with contextlib.redirect_stdout(io.StringIO()):
    from mace import modules

CUTOFF = 5.0
ELEMENTS = [1, 6, 7, 8, 9]


def mace(neighbours: float) -> torch.nn.Module:
    """The network.

    Args:
        neighbours: that an atom has within 5 Å, on average.
    """
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=neighbours,
        atomic_numbers=ELEMENTS,
        correlation=3,
        radial_type="bessel",
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return model.float()


def build(request: protocol.Request) -> protocol.Work:
    """Cutoff 5 Å, which all pairs of a molecule are within; the edges are given, as MACE's data loader gives them."""
    torch.set_default_dtype(torch.float32)
    numbers, pos = protocol.molecules(request)
    model = mace(request.atoms - 1)
    data = _batch(request, numbers, pos)

    def values() -> torch.Tensor:
        return model(data, training=request.mode != "forward", compute_force=False)["energy"]

    def forces_step() -> None:
        model.zero_grad(set_to_none=True)
        output = model(data, training=True, compute_force=True)
        ((output["energy"] - 1).square().mean() + (output["forces"] - 1).square().mean()).backward()

    steps = {
        "forward": protocol.forward_step(values),
        "training": protocol.training_step(values, model),
        "forces": forces_step,
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return protocol.Work(steps[request.mode], parameters, version("mace-torch"))


def _batch(request: protocol.Request, numbers: np.ndarray, pos: np.ndarray) -> dict[str, torch.Tensor]:
    """What MACE reads of a batch."""
    atoms, count = request.atoms, request.molecules
    pairs = np.array([(i, j) for i in range(atoms) for j in range(atoms) if i != j]).T
    edge_index = np.concatenate([pairs + atoms * molecule for molecule in range(count)], axis=1)
    one_hot = numbers.reshape(-1, 1) == np.array(ELEMENTS)
    shifts = torch.zeros(edge_index.shape[1], 3)
    return {
        "positions": torch.as_tensor(pos.reshape(-1, 3)),
        "node_attrs": torch.as_tensor(one_hot, dtype=torch.float32),
        "edge_index": torch.as_tensor(edge_index),
        "shifts": shifts,
        "unit_shifts": shifts,
        "cell": torch.zeros(3 * count, 3),
        "batch": torch.arange(count).repeat_interleave(atoms),
        "ptr": torch.arange(0, atoms * count + 1, atoms),
        "head": torch.zeros(count, dtype=torch.long),
    }


def network(_options: dict[str, object]) -> "contest.Network":
    """The same size for a contest, with the mean over the atoms: the labels there are intensive."""
    model = mace(15.0)

    def values(numbers: torch.Tensor, pos: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        near = (torch.cdist(pos, pos) < CUTOFF) & (batch[:, None] == batch)
        sizes = torch.bincount(batch)
        shifts = torch.zeros(int(near.sum()) - len(pos), 3)
        data = {
            "positions": pos,
            "node_attrs": (numbers[:, None] == torch.tensor(ELEMENTS)).float(),
            "edge_index": near.fill_diagonal_(False).nonzero().T,
            "shifts": shifts,
            "unit_shifts": shifts,
            "cell": torch.zeros(3 * len(sizes), 3),
            "batch": batch,
            "ptr": torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            "head": torch.zeros(len(sizes), dtype=torch.long),
        }
        return model(data, training=model.training, compute_force=False)["energy"] / sizes

    return model, values


if __name__ == "__main__":
    contest.answer(network, build)
