"""Calibration: the noise, the steps or the sample rate with which DP-SGD meets a target.

Each answer has been put to `epsilon` and met the target; none is ever returned that misses it.
"""

import math
from collections.abc import Callable

from dpfunc.accounting.events import dp_sgd
from dpfunc.accounting.questions import epsilon
from dpfunc.checks import is_real, require

_TOLERANCE = 1e-6  # relative: how close to the best value an answer comes
_MOST_NOISE = 1e6
_LEAST_RATE = 1e-12
_MOST_STEPS = 2**40


def noise_multiplier(
    *, target_epsilon: float, delta: float, sample_rate: float, steps: int
) -> float:
    """The smallest noise multiplier that meets the target, to within one part in a million above.

    0 where no noise is needed (``steps == 0``, ``sample_rate == 0`` or ``delta >= 1``). ValueError
    where a noise multiplier of 1e6 does not meet the target.

    >>> sigma = noise_multiplier(target_epsilon=3.0, delta=1e-5, sample_rate=0.01, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=sigma, sample_rate=0.01, steps=1000), delta=1e-5) <= 3.0
    True
    """
    _require_target("noise_multiplier", target_epsilon, delta)

    def meets(sigma: float) -> bool:
        event = dp_sgd(noise_multiplier=sigma, sample_rate=sample_rate, steps=steps)
        return epsilon(event, delta=delta) <= target_epsilon

    if meets(0.0):
        return 0.0
    require(
        meets(_MOST_NOISE),
        "noise_multiplier",
        f"a target that a noise multiplier of {_MOST_NOISE:g} meets",
        f"target_epsilon={target_epsilon}, delta={delta}",
        "raise the target, or take fewer steps",
    )
    low, high = 0.0, 1.0
    while not meets(high):
        low, high = high, min(2 * high, _MOST_NOISE)
    while low == 0.0:
        low, high = (high / 2, high) if not meets(high / 2) else (0.0, high / 2)
    return _boundary(meets, high, low)


def sample_rate(
    *, target_epsilon: float, delta: float, noise_multiplier: float, steps: int
) -> float:
    """The largest Poisson sample rate that meets the target, to within one part in a million below.

    ValueError where a rate of 1e-12 does not meet it.

    >>> q = sample_rate(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=1.0, sample_rate=q, steps=1000), delta=1e-5) <= 3.0
    True
    """
    _require_target("sample_rate", target_epsilon, delta)

    def meets(rate: float) -> bool:
        event = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=rate, steps=steps)
        return epsilon(event, delta=delta) <= target_epsilon

    if meets(1.0):
        return 1.0
    require(
        meets(_LEAST_RATE),
        "sample_rate",
        f"a target that a rate of {_LEAST_RATE:g} meets",
        f"target_epsilon={target_epsilon}, delta={delta}, noise_multiplier={noise_multiplier}",
        "raise the noise multiplier or the target",
    )
    low = high = 1.0
    while not meets(low):
        low, high = max(low / 4, _LEAST_RATE), low
    return _boundary(meets, low, high)


def steps(
    *, target_epsilon: float, delta: float, noise_multiplier: float, sample_rate: float
) -> int:
    """The largest number of steps that meets the target; 0 where not even one step does.

    ValueError where 2**39 steps still meet the target (infinite noise, say).

    >>> steps(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, sample_rate=0.01)
    2195
    """
    _require_target("steps", target_epsilon, delta)

    def meets(count: int) -> bool:
        event = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=count)
        return epsilon(event, delta=delta) <= target_epsilon

    low, high = 0, 1
    while meets(high):
        low, high = high, 2 * high
        require(
            high < _MOST_STEPS,
            "steps",
            "a target that some number of steps exceeds",
            f"target_epsilon={target_epsilon}, delta={delta}",
            "choose any number of steps: the target is never reached",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if meets(middle) else (low, middle)
    return low


def _boundary(meets: Callable[[float], bool], good: float, bad: float) -> float:
    """The value nearest to ``bad`` found to meet the target, by bisection on a log scale."""
    while abs(good - bad) > _TOLERANCE * good:
        middle = math.sqrt(good * bad)
        good, bad = (middle, bad) if meets(middle) else (good, middle)
    return good


def _require_target(subject: str, target_epsilon: float, delta: float) -> None:
    require(
        is_real(target_epsilon) and target_epsilon > 0,
        subject,
        "target_epsilon > 0",
        target_epsilon,
        "use a value between 0.1 and 10",
    )
    require(is_real(delta) and delta > 0, subject, "delta > 0", delta, "use about 1 / (10 * size)")
