"""torchmd-net: TensorNet at the size that its authors use for QM9.

Its default operators are Warp kernels, which on a CPU run in one thread; with the option `warp` false the package's
own fallback in plain torch is measured, the one it takes where Warp is missing.
"""

import warnings
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.peers import contest, protocol

CONFIG: dict[str, Any] = {
    "model": "tensornet",
    "embedding_dimension": 256,
    "num_layers": 3,
    "num_rbf": 64,
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "activation": "silu",
    "cutoff_lower": 0.0,
    "cutoff_upper": 5.0,
    "max_z": 128,
    "max_num_neighbors": 64,
    "equivariance_invariance_group": "O(3)",
    "atom_filter": -1,
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "add",
    "precision": 32,
}


def build(request: protocol.Request) -> protocol.Work:
    """256 channels, 3 layers, cutoff 5 Å, which all pairs of a molecule are within."""
    if not request.options.get("warp", True):
        from torchmdnet.extensions import warp_ops

        del warp_ops.fn_tensor_norm3  # so that importing it fails
        warnings.simplefilter("ignore", ImportWarning)
    from torchmdnet.models.model import create_model

    numbers, pos = (torch.as_tensor(array) for array in protocol.molecules(request))
    z, coordinates = numbers.flatten(), pos.flatten(0, 1)
    batch = torch.arange(request.molecules).repeat_interleave(request.atoms)
    model = create_model({**CONFIG, "derivative": request.mode == "forces"})

    def values() -> torch.Tensor:
        return model(z, coordinates, batch)[0]

    def forces_step() -> None:
        model.zero_grad(set_to_none=True)
        energy, forces = model(z, coordinates.detach().clone(), batch)
        ((energy - 1).square().mean() + (forces - 1).square().mean()).backward()

    steps = {
        "forward": protocol.forward_step(values),
        "training": protocol.training_step(values, model),
        "forces": forces_step,
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return protocol.Work(steps[request.mode], parameters, version("torchmd-net"))


def network(_options: dict[str, object]) -> "contest.Network":
    """The same size for a contest, with the mean over the atoms: the labels there are intensive."""
    from torchmdnet.models.model import create_model

    model = create_model({**CONFIG, "derivative": False, "reduce_op": "mean"})
    return model, lambda numbers, pos, batch: model(numbers, pos, batch)[0][:, 0]


if __name__ == "__main__":
    contest.answer(network, build)
