"""How strategies are made: by names of the field, with numbers found by optimisation.

Coefficients of C that noise is made with are multiples of ``2**-bits``, so that the noise of later
steps is taken from whole numbers without any rounding (`dpfunc.noise.correlated`); what
is returned has them rounded already. ``bits=None`` leaves them as they come out, for comparisons.
"""

import numpy as np

from dpfunc.checks import is_count, is_real, require
from dpfunc.strategies.banded_optimum import Error, banded_optimum
from dpfunc.strategies.dense_optimum import dense_optimum
from dpfunc.strategies.few_numbers_optimum import buffered_optimum, fractional_optimum
from dpfunc.strategies.participation import ONCE, Participation
from dpfunc.strategies.records import Buffered, Dense, InverseToeplitz, Toeplitz
from dpfunc.strategies.series import Floats, power_of_one_minus_x, to_bits
from dpfunc.strategies.workloads import prefix_sums

_BITS = 16


def identity(*, steps: int) -> Toeplitz:
    """``C = I``: independent noise, DP-SGD."""
    return Toeplitz(steps, (1.0,))


def banded(
    *,
    steps: int,
    bands: int,
    workload: Floats | None = None,
    error: Error = "mean",
    bits: int | None = _BITS,
) -> Toeplitz:
    """The Toeplitz strategy of ``bands`` bands with the least error: "BandMF".

    Optimal for any number of participations that are at least ``bands`` apart, and the only kind
    whose privacy sampling amplifies without loss (`sampling.CyclicPoisson`). McKenna 2024,
    arXiv:2405.15913. About ``epsilon * sqrt(steps) / epochs`` bands are best under sampling.

    ``workload``: the first column of a Toeplitz workload, prefix sums by default; ``error``: the
    "mean" over the queries or their "max". Takes a second for 2,000 bands.

    >>> banded(steps=128, bands=2).coefficients
    (1.0, 0.77813720703125)
    """
    a = _workload("banded", steps, workload, error)
    _require_bands("banded", steps, bands)
    return Toeplitz(steps, _numbers("banded", banded_optimum(a, bands, error), bits))


def square_root(*, steps: int, bits: int | None = _BITS) -> Toeplitz:
    """The square root of the prefix sums: ``c_i = binomial(2 i, i) / 4**i``, as many as steps.

    The best Toeplitz strategy for the largest error and one participation (Fichtenberger, Henzinger
    and Upadhyay 2023, arXiv:2202.11205). Its noise needs that of all steps before.

    >>> square_root(steps=4).coefficients
    (1.0, 0.5, 0.375, 0.3125)
    """
    _require_bands("square_root", steps, 1)
    return Toeplitz(steps, _numbers("square_root", power_of_one_minus_x(-0.5, steps), bits))


def square_root_inverse(*, steps: int, bands: int) -> InverseToeplitz:
    """``C^-1`` has the first ``bands`` coefficients of ``(1 - x)**(1/2)``: "BISR".

    Kalinin et al. 2025, arXiv:2505.12128. With few bands `fractional` is up to twice as good.

    >>> square_root_inverse(steps=4, bands=3).coefficients
    (1.0, -0.5, -0.125)
    """
    _require_bands("square_root_inverse", steps, bands)
    return InverseToeplitz(steps, tuple(power_of_one_minus_x(0.5, bands).tolist()))


def lambda_cgd(*, steps: int, lambda_: float) -> InverseToeplitz:
    """The noise of a step is ``z_t - lambda z_{t-1}``: "DP-lambda-CGD" (arXiv:2601.22334).

    >>> lambda_cgd(steps=4, lambda_=0.75).coefficients
    (1.0, -0.75)
    """
    require(
        is_real(lambda_) and 0 <= lambda_ < 1,
        "lambda_cgd",
        "0 <= lambda_ < 1",
        lambda_,
        "use dpfunc.correlated.fractional(steps=, bands=2), which finds the best one",
    )
    _require_bands("lambda_cgd", steps, 2)
    return InverseToeplitz(steps, (1.0, -float(lambda_)))


def fractional(
    *,
    steps: int,
    bands: int,
    participation: Participation = ONCE,
    exponent: float | None = None,
    workload: Floats | None = None,
    error: Error = "mean",
) -> InverseToeplitz:
    """``C^-1`` has the first ``bands`` coefficients of ``(1 - x)**exponent``: "gamma-BIFR".

    arXiv:2605.18379. Without an ``exponent`` the best one is found, for ``participation``. The
    noise of earlier steps is drawn again from the key: a run has no memory besides its step.

    ValueError for an exponent that is not between 0 and 1: above, C would grow with the steps.

    >>> fractional(steps=100, bands=3, exponent=0.5).coefficients
    (1.0, -0.5, -0.125)
    """
    a = _workload("fractional", steps, workload, error)
    _require_bands("fractional", steps, bands)
    _require_participation("fractional", participation)
    if exponent is None:
        exponent = fractional_optimum(steps, bands, participation, a, error) if bands > 1 else 0.5
    require(
        is_real(exponent) and 0 < exponent < 1,
        "fractional",
        "0 < exponent < 1",
        exponent,
        "leave it out to have the best one found",
    )
    return InverseToeplitz(steps, tuple(power_of_one_minus_x(exponent, bands).tolist()))


def buffered(
    *,
    steps: int,
    buffers: int = 3,
    participation: Participation = ONCE,
    workload: Floats | None = None,
    error: Error = "mean",
) -> Buffered:
    """The best strategy of at most ``buffers`` decaying buffers: "BLT" (arXiv:2408.08868).

    Close to the best of all Toeplitz strategies with two or three. A buffer that gains less than
    .05 % is left out. A local search: a second or two.

    >>> len(buffered(steps=64, buffers=2).decays)
    2
    """
    a = _workload("buffered", steps, workload, error)
    _require_participation("buffered", participation)
    require(
        is_count(buffers) and 1 <= buffers <= 6 and steps >= 2,
        "buffered",
        "1 to 6 buffers, for at least 2 steps",
        (buffers, steps),
        "use 3",
    )
    return buffered_optimum(steps, buffers, participation, a, error)


def dense(*, steps: int, epochs: int = 1, workload: Floats | None = None) -> Dense:
    """The best matrix of all for the mean error, for ``epochs`` of one fixed order.

    Choquette-Choo et al. 2023, arXiv:2211.06530. ``workload``: as for `errors`. For research: up to
    some hundred steps, and its noise needs that of all steps before.

    ValueError unless ``epochs`` divides ``steps``.

    >>> dense(steps=8).steps
    8
    """
    _require_bands("dense", steps, 1)
    require(
        is_count(epochs) and epochs >= 1 and steps % epochs == 0 and steps <= 2048,
        "dense",
        "epochs that divide steps, and at most 2048 steps",
        (epochs, steps),
        "use dpfunc.correlated.banded, which has no such limits",
    )
    a = prefix_sums(steps) if workload is None else np.asarray(workload, np.float64)
    if a.ndim == 1:
        a = np.array([np.concatenate([a[t::-1], np.zeros(steps - 1 - t)]) for t in range(steps)])
    c = dense_optimum(a, epochs)
    return Dense(tuple(tuple(row[: t + 1].tolist()) for t, row in enumerate(c)))


def _numbers(subject: str, coefficients: Floats, bits: int | None) -> tuple[float, ...]:
    require(
        bits is None or (is_count(bits) and 12 <= bits <= 30),
        subject,
        "bits from 12 to 30, or None",
        bits,
        "use 16",
    )
    kept = coefficients if bits is None else to_bits(coefficients, bits)
    return tuple(kept.tolist())


def _workload(subject: str, steps: int, workload: Floats | None, error: str) -> Floats:
    _require_bands(subject, steps, 1)
    require(error in ("mean", "max"), subject, 'error "mean" or "max"', error, 'use "mean"')
    a = prefix_sums(steps) if workload is None else np.asarray(workload, np.float64)
    require(
        a.shape == (steps,) and bool(np.isfinite(a).all()) and a[0] != 0,
        subject,
        f"the first column of a Toeplitz workload, [{steps}], its first entry not 0",
        a.shape,
        "make it with dpfunc.correlated.momentum; for a schedule see dpfunc.correlated.dense",
    )
    return a


def _require_bands(subject: str, steps: int, bands: int) -> None:
    require(
        is_count(steps) and steps >= 1,
        subject,
        "an int steps >= 1",
        steps,
        "pass how many steps the run takes",
    )
    require(
        is_count(bands) and 1 <= bands <= steps,
        subject,
        f"1 to {steps} bands, as many as steps at most",
        bands,
        "use 4 to 32",
    )


def _require_participation(subject: str, participation: object) -> None:
    require(
        isinstance(participation, Participation),
        subject,
        "a Participation",
        type(participation).__name__,
        "pass dpfunc.correlated.Participation(most=..., min_separation=...)",
        error=TypeError,
    )
