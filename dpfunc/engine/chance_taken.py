"""Whether anything was drawn at random since a batch began: torch's generators tell."""

import torch
from torch import Tensor


class ChanceTaken:
    """The generators as they are now, of the CPU and of the device that ``anything`` is asked for.

    What draws with a generator of its own, or with NumPy, is not seen.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._before = self._states()

    def anything(self) -> bool:
        """Whether one of them has moved since."""
        return any(
            not torch.equal(then, now)
            for then, now in zip(self._before, self._states(), strict=True)
        )

    def _states(self) -> list[Tensor]:
        states = [torch.random.get_rng_state()]
        if self._device is not None and self._device.type != "cpu":
            states.append(torch.get_device_module(self._device).get_rng_state(self._device))
        return states
