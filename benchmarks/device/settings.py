"""Which device, and how much to ask of it."""

from typing import NamedTuple

import torch


class Settings(NamedTuple):
    """``tiny``: little of everything, to see that it runs."""

    device: torch.device
    tiny: bool

    def synchronize(self) -> None:
        """Wait for what the device was given to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
