"""How many runs to make when the best of them is released: a secret number, drawn beforehand."""

import math
from typing import Any

from dpfunc.accounting.events.selection import gamma_of, require_runs
from dpfunc.checks import plain, require
from dpfunc.random.exact import LazyUniform, exact_floor
from dpfunc.random.keys import Key, bits, fold_in

_LEAST_GAMMA = 1e-5
_MOST_RUNS = 10**7  # reached with a probability of exp(-100) at most


def runs_to_make(key: Key, *, mean_runs: float, shape: float) -> int:
    """K, the number of runs for ``accounting.PrivateSelection`` of the same numbers.

    ``P[K = k] = (1 - gamma)**k / (gamma**-shape - 1) prod_{l<k} (l + shape) / (l + 1)``, k >= 1;
    for shape 0 ``(1 - gamma)**k / (k log(1 / gamma))``; for shape infinity Poisson with this mean,
    which may be 0: then nothing is released.

    Guarantee: exactly that distribution, given random bits: sums of probabilities in interval
    arithmetic are compared with a uniform real number, of which as many bits are read as it takes.
    Draw K once, before the first run; make all K runs, whatever they show; and never tell K. Who
    knows K, or stops early, or makes one more run, has none of the guarantee.

    >>> import dpfunc as dp
    >>> [runs_to_make(dp.key(seed), mean_runs=10, shape=1) for seed in range(5)]
    [1, 4, 12, 15, 18]
    """
    mean_runs, shape = plain(mean_runs), plain(shape)
    require_runs("runs_to_make", mean_runs, shape)
    own = fold_in(key, "number of runs")
    gamma = 1.0 if shape == math.inf else gamma_of(float(mean_runs), float(shape))
    require(
        gamma >= _LEAST_GAMMA,
        "runs_to_make",
        f"a number of runs that stays below {_MOST_RUNS:,}",
        f"gamma {gamma:g}",
        "use fewer mean_runs or a larger shape",
    )
    if gamma == 1 and shape < math.inf:
        return 1
    leading = bits(own, 1).tolist()[0] % 2**64
    uniform = LazyUniform(leading, 64, fold_in(own, "further bits"))

    def count(context: Any, u: Any) -> Any:
        return _quantile(context, u, mean_runs, shape, gamma)

    return exact_floor(count, uniform)


def _quantile(context: Any, u: Any, mean_runs: float, shape: float, gamma: float) -> Any:
    """An interval that holds the least k with ``P[K <= k] > u``."""
    one = context.mpf(1)
    if shape == math.inf:
        first, term = 0, context.exp(-context.mpf(mean_runs))
    elif shape == 0:
        first, term = 1, (one - gamma) / -context.log(context.mpf(gamma))
    else:
        power = context.exp(-context.mpf(shape) * context.log(context.mpf(gamma)))
        first, term = 1, (one - gamma) * shape / (power - 1)
    upto, least = term, None
    for k in range(first, _MOST_RUNS):
        if least is None and upto.b > u.a:  # from here on it may be
            least = k
        if upto.a > u.b:
            return context.mpf([least, k])
        if shape == math.inf:
            term = term * mean_runs / (k + 1)
        elif shape == 0:
            term = term * (one - gamma) * k / (k + 1)
        else:
            term = term * (one - gamma) * (context.mpf(shape) + k) / (k + 1)
        upto = upto + term
        if least is not None and k > 4 * least + 1000:
            break
    return context.mpf([-context.inf, context.inf])  # more bits of the uniform are needed
