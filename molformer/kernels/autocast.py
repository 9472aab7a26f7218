"""Autocast state, saved for deferred computations such as a backward."""

from typing import NamedTuple

import torch


class Autocast(NamedTuple):
    """State of autocast on one type of device."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def current(cls, device: str) -> "Autocast":
        """The current state for a type of device, such as `cuda`."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def restored(self) -> torch.autocast:
        """Context with this state; casts are not cached, since a cached cast of a weight can lose its gradient."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled, cache_enabled=False)
