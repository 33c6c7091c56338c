"""The best of a random number of private runs, as an event: tuning that is paid for."""

import math
from dataclasses import dataclass
from functools import lru_cache

import scipy

from dpfunc.accounting.events.algebra import Event, require_event
from dpfunc.checks import is_real, require

_MOST_RUNS = 1e6
_MOST_SHAPE = 100.0
_LEAST_SHAPE = -0.99
_ROUNDING = 1e-11


@dataclass(frozen=True, repr=False)
class PrivateSelection(Event):
    """The best of K runs of ``event``, K random with mean ``mean_runs``, and nothing of the others.

    K is drawn beforehand (`dpfunc.sampling.runs_to_make`) from the truncated negative binomial
    distribution of this ``shape``: 0 is the logarithmic, 1 the geometric one, ``math.inf`` the
    Poisson distribution, under which K may be 0 and nothing is released. Large shapes keep K close
    to its mean, small ones cost less privacy. Each run has settings of its own, drawn from a fixed
    distribution, and a key of its own. The best by a score that is part of the runs' own private
    outputs is released, settings included, and neither K nor the others are.

    ``event`` describes one run whatever its settings are. If they change the noise, the steps or
    the rate, it must lie above every run that they may lead to, at every epsilon: the largest
    epsilon at one delta does not. The same scheme with the least noise, the most steps and the
    largest rate does.

    Guarantee: with ``c = (1 + shape) e*``, ``delta(e*) = a (exp(e*) - 1)`` and ``a = gamma / (1 -
    gamma)`` the release has ``delta(epsilon) <= mean_runs * delta_of_event(epsilon - c)``;
    docs/accounting.md has the proof, and the case of a Poisson number. Cf. Liu and
    Talwar 2019 (arXiv:1811.07971), Papernot and Steinke 2022 (arXiv:2110.03620).

    It is not: a grid that is searched in full (that is composition), a search that learns from
    earlier runs, runs that are stopped early because they are losing.

    >>> from dpfunc.accounting import dp_sgd, epsilon
    >>> run = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    >>> best = PrivateSelection(run, mean_runs=10, shape=1)
    >>> f"{epsilon(run, delta=1e-6):.2f} {epsilon(best, delta=1e-6):.2f}"
    '2.12 3.16'
    """

    event: Event
    mean_runs: float
    shape: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require_event("PrivateSelection", self.event)
        require(
            not isinstance(self.event, PrivateSelection),
            "PrivateSelection",
            "an event of one run",
            self.event,
            "a selection among selections has no proof here",
        )
        require_runs("PrivateSelection", self.mean_runs, self.shape)

    @property
    def gamma(self) -> float:
        """The parameter of the distribution of K; 1 where K is always 1. Not of a Poisson K."""
        return gamma_of(self.mean_runs, self.shape)


def require_runs(subject: str, mean_runs: float, shape: float) -> None:
    """Refuse numbers that belong to no distribution of K."""
    is_poisson = shape == math.inf
    require(
        is_real(shape) and (is_poisson or _LEAST_SHAPE <= shape <= _MOST_SHAPE),
        subject,
        f"a shape between {_LEAST_SHAPE:g} and {_MOST_SHAPE:g}, or math.inf for a Poisson number",
        shape,
        "use 1 (geometric), or 0 (logarithmic), which costs less privacy and varies more",
    )
    least = "above 0" if is_poisson else "of at least 1"
    require(
        is_real(mean_runs) and (mean_runs > 0 if is_poisson else mean_runs >= 1),
        subject,
        f"mean_runs {least}",
        mean_runs,
        "pass how many runs to make on average",
    )
    require(
        mean_runs <= _MOST_RUNS,
        subject,
        f"mean_runs of at most {_MOST_RUNS:g}",
        mean_runs,
        "make fewer runs",
    )


def log_mean(selection: PrivateSelection) -> float:
    """The logarithm of the mean number of runs that are drawn, rounded up."""
    if selection.shape == math.inf or selection.gamma == 1:
        return math.log(selection.mean_runs) + _ROUNDING
    return log_mean_at(math.log(selection.gamma), selection.shape) + _ROUNDING


@lru_cache(maxsize=256)
def gamma_of(mean_runs: float, shape: float) -> float:
    """The gamma of the truncated negative binomial distribution with this mean.

    ``mean = shape (1 - gamma) / (gamma (1 - gamma**shape))``, for shape 0 ``(1/gamma - 1) /
    log(1/gamma)``: it falls from infinity to 1 as gamma goes from 0 to 1.
    """
    if mean_runs == 1:
        return 1.0
    target = math.log(mean_runs)
    low, high = -1.0, -1e-12
    while log_mean_at(low, shape) < target:
        low *= 2
    if log_mean_at(high, shape) > target:
        return 1.0
    log_gamma = float(
        scipy.optimize.brentq(lambda x: log_mean_at(x, shape) - target, low, high, xtol=1e-16)
    )
    return math.exp(log_gamma)


def log_mean_at(log_gamma: float, shape: float) -> float:
    """The logarithm of the mean of K, at the logarithm of gamma below 0."""
    if shape * log_gamma == 0:
        return math.log(-math.expm1(log_gamma)) - log_gamma - math.log(-log_gamma)
    share = shape / -math.expm1(shape * log_gamma)
    return math.log(share * -math.expm1(log_gamma)) - log_gamma
