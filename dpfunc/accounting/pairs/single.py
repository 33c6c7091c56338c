"""One release, exactly: delta is read off the distribution functions of the pair.

The set that tells P and Q apart best at epsilon is "the loss is above epsilon", and the mass of P
and Q there is one cell of the pair.
"""

import math

import numpy as np
import scipy

from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.privacy_loss import ULP, OutOfReachError, Pair, log_rounding

_LARGE = 700.0  # exp(710) has no float
_BARELY = 1e-290  # below this floats lose digits
_LOST = 1e-322  # by a few roundings there
_MOST_TRIED = 1000  # places, on the way to the one that is asked for


def log_delta_interval(pair: Pair, epsilon: float) -> tuple[float, float]:
    """Bounds of the logarithm of delta of one release, a rounding error apart."""
    p, r, p_error, r_error, shift = _above(pair, epsilon)
    wider, _, wider_error, _, other_shift = _above(pair, epsilon - 4 * shift)
    while other_shift > shift:  # so that the wider set certainly holds the best one
        shift = 2 * other_shift
        wider, _, wider_error, _, other_shift = _above(pair, epsilon - 4 * shift)
    if 0 < r < _BARELY or epsilon > _LARGE:
        r_error += 5e-324  # a float that small is off by as much
    if r < _BARELY and p > 0 and not isinstance(pair, FiniteLoss):
        r_error += _LOST  # by distribution functions; and 0 may be one
    scaled = _scaled(epsilon, r)
    value = p - scaled
    error = p_error + _scaled(epsilon, r_error) + 4e-16 * (p + scaled)
    if epsilon > _LARGE:  # an exponent is off by an ulp of its parts
        error += 4 * ULP * epsilon * scaled
    # Any set bounds delta from below. From above, the best set differs from this one by losses
    # within `shift` of epsilon, all above epsilon - 4 shift, and each counts little.
    lower, upper = value - error, min(value + error, p * (1 + 4e-16) + p_error)
    upper += math.expm1(shift) * (wider + wider_error)
    least = math.log(lower) if lower > 0 else -math.inf
    most = math.log(min(1.0, upper)) if upper > 0 else -math.inf
    return least - log_rounding(least), min(0.0, most + log_rounding(most))


def _scaled(epsilon: float, mass: float) -> float:
    """``exp(epsilon) mass``, also where the exponential has no float."""
    if epsilon <= _LARGE:
        return math.exp(epsilon) * mass
    return math.exp(min(epsilon + math.log(mass), _LARGE)) if mass > 0 else 0.0


def _above(pair: Pair, epsilon: float) -> tuple[float, float, float, float, float]:
    """P, Q and their errors where the loss is above epsilon, and how well that place is known."""
    p, r, p_error, r_error, shift = pair.cells(np.array([epsilon]))
    if shift > 0.02:
        raise OutOfReachError
    return float(p[-1]), float(r[-1]), float(p_error[-1]), float(r_error[-1]), shift


def epsilon_interval(
    pair: Pair, log_delta: float, known: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``.

    ``known``: about where it is.
    """
    low, high = known
    if low > 0 and log_delta_interval(pair, low)[1] <= log_delta:
        low = 0.0
    if low == 0 and log_delta_interval(pair, 0.0)[1] <= log_delta:
        return 0.0, 0.0
    if log_delta_interval(pair, high)[1] > log_delta:  # perhaps by a rounding of what is known
        high = high * (1 + 1e-6) + 1e-12
    while log_delta_interval(pair, high)[1] > log_delta:
        high = 2 * max(high, 0.5)
        if high > 1e300:
            return 0.0, math.inf

    def excess(epsilon: float) -> float:
        lower, upper = log_delta_interval(pair, epsilon)
        return max(lower, -1e9) / 2 + max(upper, -1e9) / 2 - log_delta

    found = low
    if excess(low) > 0:
        try:
            found = float(
                scipy.optimize.brentq(
                    excess, low, high, xtol=1e-15, rtol=1e-15, maxiter=_MOST_TRIED
                )
            )
        except RuntimeError as error:  # it does not converge
            raise OutOfReachError from error
    lower = upper = found
    push = 1e-15 * (found + 1e-3)
    while log_delta_interval(pair, upper)[1] > log_delta:
        upper, push = upper + push, 2 * push
    push = 1e-15 * (found + 1e-3)
    while lower > 0 and log_delta_interval(pair, lower)[0] < log_delta:
        lower, push = max(0.0, lower - push), 2 * push
    return lower, upper
