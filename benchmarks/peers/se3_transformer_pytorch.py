"""se3-transformer-pytorch (lucidrains): the SE(3)-Transformer at the paper's size for QM9."""

from importlib.metadata import version

import torch
from se3_transformer_pytorch import SE3Transformer

from benchmarks.peers import protocol


def build(request: protocol.Request) -> protocol.Work:
    """Degrees to 3, 32 channels each in 8 heads, 7 layers; every atom attends to all others of its molecule."""
    numbers, pos = (torch.as_tensor(array) for array in protocol.molecules(request))
    model = SE3Transformer(
        num_tokens=10,
        dim=32,
        heads=8,
        dim_head=4,
        depth=7,
        num_degrees=4,
        input_degrees=1,
        output_degrees=1,
        num_neighbors=request.atoms - 1,
        reduce_dim_out=True,
    )
    mask = torch.ones_like(numbers, dtype=torch.bool)

    def values() -> torch.Tensor:
        return model(numbers, pos, mask, return_type=0).flatten(1).mean(1)

    step = protocol.forward_step(values) if request.mode == "forward" else protocol.training_step(values, model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return protocol.Work(step, parameters, version("se3-transformer-pytorch"))


if __name__ == "__main__":
    protocol.answer(build)
