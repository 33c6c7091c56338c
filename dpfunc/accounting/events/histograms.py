"""Histograms over bins that nobody listed beforehand: counts below a threshold stay secret."""

import math

from scipy.special import ndtr

from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.mechanisms import ApproxDP, Gaussian, Laplace
from dpfunc.checks import is_count, is_real, require

_ROUNDING = 1e-12  # far above what the functions below are off by
_LEAST = 1e-300  # smaller floats lose digits, and none is 0: then nothing would be given away


def thresholded_histogram(
    mechanism: Gaussian | Laplace, *, threshold: float, bins: int = 1
) -> Event:
    """The event of a histogram that names the bins whose noisy counts are above ``threshold``.

    One record adds 1 to at most ``bins`` bins. Every bin with a count above 0 gets noise, and it is
    released with its noisy count where that is above ``threshold``. ``mechanism`` says how much
    noise: deviation ``noise_multiplier * sqrt(bins)`` for `Gaussian`, scale ``noise_multiplier *
    bins`` for `Laplace`, for those are the sensitivities of the counts.

    Guarantee, under adding or removing one record: that of ``mechanism`` together with
    ``ApproxDP(0, d)``, where d is the chance that any of ``bins`` counts of 1 passes the threshold.
    A bin that the record fills alone is named with that chance at most; where none is, the others
    are noisy counts, cut off (the argument of Korolova et al. 2009, "Releasing search queries and
    clicks privately", section 4; proof in docs/accounting_events.md). The sum is at most about
    twice the exact delta, which Wilkins et al. 2024 (arXiv:2202.01100) have for one Gaussian
    histogram.

    TypeError for another mechanism, ValueError for a threshold or a count that is none.

    >>> from dpfunc.accounting import Laplace, delta
    >>> event = thresholded_histogram(Laplace(2.0), threshold=30.0)
    >>> f"{delta(event, epsilon=0.5):.3g}"
    '2.52e-07'
    """
    subject = "thresholded_histogram"
    require(
        isinstance(mechanism, Gaussian | Laplace),
        subject,
        "the noise of the counts, a Gaussian or Laplace event",
        mechanism,
        "pass accounting.Gaussian(noise_multiplier) or accounting.Laplace(noise_multiplier)",
        error=TypeError,
    )
    require(
        math.isfinite(mechanism.noise_multiplier),
        subject,
        "noise of a finite deviation",
        mechanism,
        "leave out what releases nothing",
    )
    require(
        is_real(threshold) and math.isfinite(threshold),
        subject,
        "a finite threshold",
        threshold,
        "pass the noisy count above which a bin is named",
    )
    require(
        is_count(bins) and bins >= 1,
        subject,
        "a whole number bins >= 1",
        bins,
        "pass the most bins that one record adds to",
    )
    return mechanism + ApproxDP(0.0, _chance_to_pass(mechanism, threshold - 1.0, bins))


def _chance_to_pass(mechanism: Gaussian | Laplace, distance: float, bins: int) -> float:
    """That the noise of any of so many bins is above ``distance``, rounded upwards."""
    multiplier = mechanism.noise_multiplier
    if multiplier == 0:
        return 0.0 if distance > 0 else 1.0
    if isinstance(mechanism, Gaussian):
        one = float(ndtr(-distance / (multiplier * math.sqrt(bins))))
    else:
        tail = math.exp(-abs(distance) / (multiplier * bins)) / 2
        one = tail if distance >= 0 else 1 - tail
    one = min(1.0, max(one * (1 + _ROUNDING), _LEAST))
    if one == 1:
        return 1.0
    return min(1.0, -math.expm1(bins * math.log1p(-one)) * (1 + _ROUNDING))
