"""The event of correlated noise without any help from sampling: one Gaussian release of a run."""

import math

from dpfunc.accounting import Gaussian
from dpfunc.checks import is_real, plain, require
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.records import Strategy
from dpfunc.strategies.sensitivity import column_norm, sensitivity


def unamplified(
    noise_multiplier: float, strategy: Strategy, participation: Participation
) -> Gaussian:
    """All releases of a run together: ``Gaussian(noise_multiplier * column_norm / sensitivity)``.

    ``noise_multiplier`` is that of one participation: the noise Z has the deviation
    ``noise_multiplier * column_norm(strategy) * max_norm``.

    Guarantee: a run with noise ``C^-1 Z`` whose records keep to ``participation`` is as private as
    one release of the event, under the relation for which the promise is kept (adding or removing a
    record must not change when the others take part), and also when its sums depend on earlier
    releases (Denisov et al. 2022, arXiv:2202.08312, theorem 2.1). It holds part-way as well.

    >>> from dpfunc.strategies.records import Toeplitz
    >>> unamplified(2.0, Toeplitz(8, (1.0, 0.5)), Participation(most=4, min_separation=2))
    Gaussian(0.9999999999999991)
    """
    noise_multiplier = plain(noise_multiplier)
    require(
        is_real(noise_multiplier) and noise_multiplier >= 0,
        "unamplified",
        "noise_multiplier >= 0",
        noise_multiplier,
        "pass that of one participation",
    )
    # Down by the errors of the norm, which is rounded up as the sensitivity is.
    ratio = column_norm(strategy) / sensitivity(strategy, participation)
    down = noise_multiplier * ratio * (1 - 2.0**-50)
    return Gaussian(down if math.isfinite(down) else math.inf)
