"""Full float32 where the reduced precision of a run would harm.

TF32 and bfloat16 have 10 and 7 bits of mantissa: enough for the layers of a network, too few for edge frames, whose
errors break equivariance, and for the sums over atoms of a readout.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Matrix products on a type of device, such as `cuda`, in full precision: no autocast, and no TF32.

    Example:
        >>> torch.set_float32_matmul_precision("high")
        >>> with full_precision("cpu"):
        ...     torch.get_float32_matmul_precision()
        'highest'
        >>> torch.set_float32_matmul_precision("highest")
    """
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)
