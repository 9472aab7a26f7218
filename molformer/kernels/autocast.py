"""The state of autocast, for what is computed later than it is asked for."""

from typing import NamedTuple

import torch


class Autocast(NamedTuple):
    """What autocast does now, to be done again later."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: str) -> "Autocast":
        """As it is for a type of device, such as `cuda`."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def again(self) -> torch.autocast:
        """The same; what is cast is not kept, so that no gradient is lost in it."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled, cache_enabled=False)
