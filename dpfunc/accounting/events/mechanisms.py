"""Mechanisms: what is released of the records that are read, without sampling or repetition.

Noise is measured in units of the sensitivity, the most that one record can move the released sum:
its L2 norm for Gaussian noise, its L1 norm for Laplace noise. A record that is replaced moves a sum
twice as far as one that is added; the accountant puts that in where the question is asked under
replacement, so it must not be put in here.
"""

import math
from dataclasses import dataclass

from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.given import Pair
from dpfunc.checks import is_count, is_real, require


@dataclass(frozen=True, repr=False)
class Gaussian(Event):
    """A sum of L2 sensitivity 1 with noise ``Normal(0, noise_multiplier**2)`` on each coordinate.

    0 means no noise; ``math.inf`` means that nothing is released.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.noise_multiplier) and self.noise_multiplier >= 0,
            "Gaussian",
            "noise_multiplier >= 0",
            self.noise_multiplier,
            "pass the standard deviation of the noise over the clipping norm",
        )


@dataclass(frozen=True, repr=False)
class MixtureOfGaussians(Event):
    """Gaussian noise on a sum that a record moves by ``shifts[i]`` with probability ``weights[i]``.

    The dominating pair of Choquette-Choo et al. 2023 (arXiv:2310.15526): with the record
    ``sum_i weights[i] Normal(shifts[i], noise_multiplier**2)``, without it
    ``Normal(0, noise_multiplier**2)``.
    """

    noise_multiplier: float
    shifts: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.noise_multiplier) and self.noise_multiplier >= 0,
            "MixtureOfGaussians",
            "noise_multiplier >= 0",
            self.noise_multiplier,
            "pass the standard deviation of the noise in the units of the shifts",
        )
        for name, values in (("shifts", self.shifts), ("weights", self.weights)):
            require(
                isinstance(values, tuple)
                and len(values) == len(self.shifts) > 0
                and all(is_real(value) and 0 <= value < math.inf for value in values),
                "MixtureOfGaussians",
                f"a tuple of {name}, finite and >= 0, one for each shift",
                values,
                "list how far the record can move the sum, and with what probabilities",
            )
        require(
            abs(math.fsum(self.weights) - 1) <= 1e-12,
            "MixtureOfGaussians",
            "weights that sum to 1",
            math.fsum(self.weights),
            "divide by their sum",
        )


@dataclass(frozen=True, repr=False)
class Laplace(Event):
    """A sum of L1 sensitivity 1 with noise of density ``exp(-|x| / b) / (2 b)`` on each coordinate.

    ``b = noise_multiplier``. 0 means no noise; ``math.inf`` means that nothing is released.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.noise_multiplier) and self.noise_multiplier >= 0,
            "Laplace",
            "noise_multiplier >= 0",
            self.noise_multiplier,
            "pass the scale of the noise over the L1 sensitivity",
        )


@dataclass(frozen=True, repr=False)
class DiscreteGaussian(Event):
    """One integer with noise of mass proportional to ``exp(-k**2 / (2 sigma**2))`` at integers k.

    One record moves the integer by at most ``sensitivity``. Canonne, Kamath and Steinke 2020
    (arXiv:2004.00010). For a vector of integers use `ZCDP`: its release costs
    ``rho = (L2 sensitivity / sigma)**2 / 2``, but is not the one-dimensional mechanism.
    """

    sigma: float
    sensitivity: int

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.sigma) and self.sigma >= 0,
            "DiscreteGaussian",
            "sigma >= 0",
            self.sigma,
            "pass the parameter of the noise, in whole units of the integer",
        )
        _require_whole_sensitivity("DiscreteGaussian", self.sensitivity)


@dataclass(frozen=True, repr=False)
class DiscreteLaplace(Event):
    """Integers with noise of mass ``tanh(a / 2) exp(-a |k|)`` at each integer k, ``a = decay``.

    Also known as the geometric mechanism (Ghosh, Roughgarden and Sundararajan 2009,
    arXiv:0811.2841). One record moves the vector of integers by at most ``sensitivity`` in L1. More
    decay is less noise: 0 means that nothing is released, ``math.inf`` no noise.
    """

    decay: float
    sensitivity: int

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.decay) and self.decay >= 0,
            "DiscreteLaplace",
            "decay >= 0",
            self.decay,
            "pass epsilon / sensitivity, the a of exp(-a |k|)",
        )
        _require_whole_sensitivity("DiscreteLaplace", self.sensitivity)


@dataclass(frozen=True, repr=False)
class RandomizedResponse(Event):
    """A record's own value, one of ``values``, or with ``noise_probability`` a uniform one of them.

    Warner 1965. A true value is also drawn by chance: it stays with probability
    ``1 - noise_probability + noise_probability / values``. The number of records is public, so the
    question has to be asked about a value that changes: replacing one record, or zeroing it out.
    """

    noise_probability: float
    values: int

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_real(self.noise_probability) and 0 <= self.noise_probability <= 1,
            "RandomizedResponse",
            "a probability 0 <= noise_probability <= 1",
            self.noise_probability,
            "pass the probability of a uniform answer",
        )
        require(
            is_count(self.values) and self.values >= 1,
            "RandomizedResponse",
            "an int values >= 1",
            self.values,
            "pass how many answers there are",
        )


@dataclass(frozen=True, repr=False)
class ExponentialMechanism(Event):
    """A choice with probability proportional to ``exp(epsilon * score / (2 * sensitivity))``.

    The losses of such a choice span at most ``epsilon`` between its outcomes (bounded range:
    Durfee and Rogers 2019, arXiv:1905.04273), which composes better than pure epsilon-DP. It covers
    report-noisy-max with Gumbel noise as well. Where a record can only raise scores,
    ``exp(epsilon * score / sensitivity)`` is the same event.
    """

    epsilon: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_epsilon("ExponentialMechanism", self.epsilon)


@dataclass(frozen=True, repr=False)
class PureDP(Event):
    """Any mechanism that is ``epsilon``-DP under the neighbouring relation of the question."""

    epsilon: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_epsilon("PureDP", self.epsilon)


@dataclass(frozen=True, repr=False)
class ApproxDP(Event):
    """Any mechanism that is (epsilon, delta)-DP under the neighbouring relation of the question."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_epsilon("ApproxDP", self.epsilon)
        require(
            is_real(self.delta) and 0 <= self.delta <= 1,
            "ApproxDP",
            "a probability 0 <= delta <= 1",
            self.delta,
            "pass the mechanism's own delta",
        )


@dataclass(frozen=True, repr=False)
class ZCDP(Event):
    """Any mechanism with Renyi divergence at most ``xi + rho * order`` at every order above 1.

    Concentrated DP (Bun and Steinke 2016, arXiv:1605.02065), under the neighbouring relation of the
    question. It says nothing about the distribution of the loss beyond its moments.
    """

    rho: float
    xi: float = 0.0

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        for name, value in (("rho", self.rho), ("xi", self.xi)):
            require(
                is_real(value) and value >= 0,
                "ZCDP",
                f"{name} >= 0",
                value,
                "pass the mechanism's own constants",
            )


@dataclass(frozen=True, repr=False)
class NonPrivate(Event):
    """A release without any privacy: epsilon is infinite, whatever else is composed with it."""


Mechanism = (
    Gaussian
    | MixtureOfGaussians
    | Laplace
    | DiscreteGaussian
    | DiscreteLaplace
    | RandomizedResponse
    | ExponentialMechanism
    | PureDP
    | ApproxDP
    | ZCDP
    | NonPrivate
    | Pair
)


def require_mechanism(subject: str, event: object) -> None:
    """Refuse to sample for anything but one mechanism."""
    require(
        isinstance(event, Mechanism),
        subject,
        "one mechanism, such as a Gaussian event, to sample for",
        type(event).__name__,
        "put Repeat and Compose outside: every step draws its own sample",
        error=TypeError,
    )


def _require_epsilon(subject: str, epsilon: float) -> None:
    require(
        is_real(epsilon) and 0 <= epsilon <= math.inf,
        subject,
        "epsilon >= 0",
        epsilon,
        "pass the mechanism's own epsilon",
    )


def _require_whole_sensitivity(subject: str, sensitivity: int) -> None:
    require(
        is_count(sensitivity) and sensitivity >= 1,
        subject,
        "an int sensitivity >= 1",
        sensitivity,
        "pass the most that one record can move the integer",
    )
