"""About how much a composition spends: where a search may begin. Nothing here is proven."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.contour.integral import rough_epsilon
from dpfunc.accounting.pairs.mixture import GaussianMixture

_PLACES, _FAR = 400, 38.0  # standard deviations: beyond, floats have no probability
_LITTLE = 0.2  # of epsilon: if small losses add up to less, one release is to blame
_SELDOM = 0.5  # larger losses: more, and they add up as well
_SMALL = 0.3  # of epsilon: smaller losses add up, one of the larger ones is enough


def about_epsilon(composition: Composition, log_delta: float) -> float:
    """Of mixtures: by the saddle-point approximation, or less, if one release is to blame alone.

    Where large losses are rare, moments come from them, and say little about all others. Delta is
    then about the sum of the deltas of all releases alone, beside which small losses add up as if
    they were normal. Infinite where there is no estimate.
    """
    mixtures = [(pair, n) for pair, n in composition if isinstance(pair, GaussianMixture)]
    if not 0 < len(mixtures) == len(composition):
        return rough_epsilon(composition, log_delta)
    alone = [_of_one(pair, times, log_delta) for pair, times in mixtures]
    far = -float(ndtri(min(0.5, math.exp(log_delta))))
    if sum(one.larger for one in alone) > _SELDOM:  # all of them add up as if they were normal
        normal = sum(one.mean for one in alone) + far * math.sqrt(sum(one.square for one in alone))
        return min(rough_epsilon(composition, log_delta), normal if normal > 0 else math.inf)
    of_one = max(one.epsilon for one in alone)
    small = far * math.sqrt(sum(one.small_square for one in alone))
    if small <= _LITTLE * of_one < math.inf:
        return of_one + small
    return min(rough_epsilon(composition, log_delta), of_one + small)


class _One(NamedTuple):
    """``epsilon`` of one release with its share of delta.

    Of all: the sum of the losses and of their squares, of the squares of small ones, and how many
    ``larger`` ones are expected.
    """

    epsilon: float
    mean: float = 0.0
    square: float = 0.0
    small_square: float = 0.0
    larger: float = 0.0


def _of_one(pair: GaussianMixture, times: int, log_delta: float) -> _One:
    y = np.linspace(-_FAR, _FAR + pair.reach(), _PLACES)
    losses = pair.loss(y)
    p, q = pair.survivals(y)
    delta = p - np.exp(np.minimum(losses, 700.0)) * q
    over = np.flatnonzero((losses > 0) & (delta > math.exp(log_delta) / times))
    if len(over) == 0:
        return _One(0.0)
    if over[-1] == _PLACES - 1:
        return _One(math.inf)
    last = int(over[-1])
    logs = np.log(np.maximum(delta[last : last + 2], 1e-300))
    share = (logs[0] - log_delta + math.log(times)) / max(logs[0] - logs[1], 1e-300)
    epsilon = float(losses[last] + min(1.0, share) * (losses[last + 1] - losses[last]))
    chance, small = -np.diff(p), losses[1:] <= _SMALL * epsilon
    all_of_it = chance @ losses[1:], chance @ losses[1:] ** 2
    part = chance[small] @ losses[1:][small] ** 2, chance[~small].sum()
    return _One(epsilon, *(times * float(value) for value in (*all_of_it, *part)))
