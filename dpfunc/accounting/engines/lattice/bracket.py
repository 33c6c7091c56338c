"""Which two neighbouring places on a lattice an excess changes its sign between."""

import math
from collections.abc import Callable

import numpy as np

from dpfunc.accounting.engines.lattice.kernel import Indices
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError


def bracketed(
    excess: Callable[[Indices], tuple[Array, Array, Array]], place: Indices
) -> tuple[Indices, Array, Array]:
    """Places with a positive excess whose next has none; or at which epsilon is below 0 already."""
    low, high = np.full(len(place), -math.inf), np.full(len(place), math.inf)
    for turn in range(100):
        here, following, epsilon = excess(place)
        low = np.where(here > 0, np.maximum(low, place), low)
        high = np.where(here <= 0, np.minimum(high, place), high)
        high = np.where(following <= 0, np.minimum(high, place + 1), high)
        is_nothing = (epsilon <= 0) & (here <= 0)
        done = ((place == low) & (high - low <= 1)) | is_nothing
        if np.all(done):
            return place, np.maximum(here, 0.0), np.minimum(following, 0.0)
        place = np.where(done, place, _next(place, here, following, (low, high), turn))
    raise OutOfReachError


def _next(
    place: Indices, here: Array, following: Array, ends: tuple[Array, Array], turn: int
) -> Indices:
    """Newton's step, or the middle between known ends where it leaves them."""
    low, high = ends
    away = np.where(here > 0, 1.0, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.floor(here / (here - following))
    step = np.where((here > following) & np.isfinite(step), step, away * 2.0**turn)
    there = place + np.clip(away * np.maximum(away * step, 1.0), -(2.0**50), 2.0**50)
    missed = (there <= low) | (there >= high) | (turn % 8 == 7)
    is_between = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        there = np.where(missed & is_between, np.floor((low + high) / 2), there)
    return np.asarray(there, dtype=np.int64)
