"""What became of the samples of the last step. Not private: for those who have the data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dpfunc.persample.factors.reduce import global_norm
from dpfunc.types import ClipRule, State, Tensors


class LastStep(NamedTuple):
    """Norms ``{name: [B]}`` before clipping, the state of the clip rule then, and the mask."""

    norms: Tensors
    clip_state: State
    mask: Tensor

    def clipped_share(self, clip: ClipRule) -> float:
        """Share of the samples that were scaled down; NaN where there was none."""
        if not self.norms:
            return math.nan
        full = getattr(clip, "full_weight", lambda _: 1.0)(self.clip_state)
        weights = clip.weights(self.norms, self.clip_state).values.values()
        return self._share(torch.stack([weight < full for weight in weights]).any(0))

    def dropped_share(self) -> float:
        """Share of the samples that were left out, as their gradients were not finite."""
        if not self.norms:
            return math.nan
        return self._share(~global_norm(self.norms).isfinite())

    def _share(self, which: Tensor) -> float:
        return float(which[self.mask].double().mean()) if len(self.mask) else math.nan


NO_STEP = LastStep({}, {}, torch.zeros(0, dtype=torch.bool))
