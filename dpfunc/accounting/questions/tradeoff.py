"""What an adversary can do: error rates, advantage, Bayes risk, reconstruction, all from delta.

For one order (P, Q) of the neighbouring data sets, every test with false-positive rate alpha (on Q)
has a false-negative rate (on P) of at least ``f(alpha) = max over epsilon of 1 - delta(epsilon) -
e**epsilon alpha`` (Wasserman and Zhou 2010; Dong, Roth and Su 2019, arXiv:1905.02383, proposition
2.12). Any one epsilon gives a valid lower bound, so an upper bound of delta is all it takes.
Negative epsilons count too, by the other order: ``delta(-e) = 1 - exp(-e) + exp(-e) delta'(e)``.
Delta is convex in ``exp(epsilon)``, so that the bound has one maximum.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.pairs.gaussian import gaussian_mu
from dpfunc.accounting.pairs.privacy_loss import ULP, Array
from dpfunc.accounting.questions.answers import delta as delta_of
from dpfunc.accounting.questions.answers import epsilon as epsilon_of
from dpfunc.accounting.questions.tangents import SWAPPED, TradeoffCurve
from dpfunc.checks import is_real, plain, require

_TOL = 1e-4  # of each delta asked for on the way
_MOST_EPSILON = 650.0  # exponentials overflow beyond
_CELLS = 16  # into which `gdp_mu` divides the epsilons at first
_MOST_DELTAS = 300
_CLOSE = 1e-3  # how close, relative, it comes to the least mu


def tradeoff(event: Event, *, alpha: float, relation: Relation = "add_or_remove") -> float:
    """The least false-negative rate of any test whose false-positive rate is at most ``alpha``.

    Guarantee: no adversary who sees the release and knows everything else, and accuses the innocent
    with probability at most alpha, misses the guilty with a smaller probability; a lower bound,
    under every order of the neighbouring relation. Of one order alone alpha is the error on Q:
    under ``"remove"`` that is the data set without the record, under ``"add"`` the one with it.

    >>> from dpfunc.accounting import Gaussian
    >>> round(tradeoff(Gaussian(1.0), alpha=0.05), 4)  # Phi(Phi^-1(0.95) - 1)
    0.7405
    """
    alpha = _require_alpha("tradeoff", alpha)
    return float(TradeoffCurve(event, relation)(alpha))


def tradeoff_curve(
    event: Event, alphas: Sequence[float], *, relation: Relation = "add_or_remove"
) -> Array:
    """`tradeoff` at each of the ``alphas``, in any order: the work is shared.

    Guarantee: that of `tradeoff`, for each entry by itself.

    | case | rates |
    |---|---|
    | no alphas | an empty array |
    | an alpha outside [0, 1] or NaN | ValueError |

    >>> from dpfunc.accounting import Gaussian
    >>> tradeoff_curve(Gaussian(1.0), [0.01, 0.05, 0.5]).round(3).tolist()
    [0.908, 0.74, 0.159]
    """
    curve = TradeoffCurve(event, relation)
    return np.array([curve(_require_alpha("tradeoff_curve", alpha)) for alpha in alphas], float)


def _require_alpha(subject: str, alpha: float) -> float:
    alpha = plain(alpha)
    require(is_real(alpha) and 0 <= alpha <= 1, subject, "an alpha in [0, 1]", alpha, "use 0.01")
    return alpha


def advantage(event: Event, *, relation: Relation = "add_or_remove") -> float:
    """The largest ``true positive rate - false positive rate`` of any test: delta at epsilon 0.

    >>> from dpfunc.accounting import Gaussian
    >>> round(advantage(Gaussian(1.0)), 6)
    0.382925
    """
    return delta_of(event, epsilon=0.0, relation=relation)


def bayes_risk(event: Event, *, prior: float, relation: Relation = "add_or_remove") -> float:
    """The least error probability of guessing membership, when its prior probability is ``prior``.

    The rarer of the two data sets, with and without the record, is P:
    ``rarer * (1 - delta(log((1 - rarer) / rarer)))``, a lower bound. ``prior`` is that of the
    record being there. So ``"add"`` and ``"remove"``, which are one pair of data sets, have one
    answer; under the other relations the worse order counts.

    >>> from dpfunc.accounting import Gaussian
    >>> round(bayes_risk(Gaussian(1.0), prior=0.1), 6)
    0.098664
    """
    prior = plain(prior)
    require(is_real(prior) and 0 < prior < 1, "bayes_risk", "a prior in (0, 1)", prior, "use 0.5")
    rarer = min(prior, 1 - prior)
    odds = math.log((1 - rarer) / rarer)
    if relation in SWAPPED:
        relation = "remove" if prior <= 0.5 else "add"
    return max(0.0, rarer * (1 - delta_of(event, epsilon=odds, relation=relation)))


def reconstruction(event: Event, *, baseline: float, relation: Relation = "add_or_remove") -> float:
    """The largest probability of reconstructing a record, for one who guesses it with ``baseline``.

    ``1 - f(baseline)`` (Hayes et al. 2023, arXiv:2302.07225; Kaissis et al. 2023,
    arXiv:2307.03928); an upper bound.
    """
    return 1.0 - tradeoff(event, alpha=baseline, relation=relation)


def gdp_mu(
    event: Event, *, least_alpha: float = 1e-6, relation: Relation = "add_or_remove"
) -> float:
    """A mu such that the event is mu-GDP, wherever both error rates are at least ``least_alpha``.

    Guarantee: there the trade-off curve is nowhere below ``T(alpha) = Phi(Phi^-1(1 - alpha) -
    mu)`` (Dong, Roth and Su 2019, arXiv:1905.02383). Usually one part in a thousand above the
    smallest such mu. Never the central limit theorem. Where no test errs that often both ways, the
    rates count from half of the largest such rate that is proven.

    Proof: the curve is above its tangents ``1 - delta(e) - exp(e) alpha``. T is convex, so it is
    below a tangent between two points as soon as it is at both; here those are where neighbouring
    tangents meet. T is its own mirror image, so that the worse of the two orders serves for both
    halves of the curve, and one order alone has the same mu.

    >>> from dpfunc.accounting import Gaussian
    >>> mu = gdp_mu(Gaussian(2.0))
    >>> 0.5 <= mu < 0.5005
    True
    """
    least_alpha = plain(least_alpha)
    require(
        is_real(least_alpha) and 0 < least_alpha < 0.5,
        "gdp_mu",
        "0 < least_alpha < 1/2",
        least_alpha,
        "use 1e-6",
    )
    both: Relation = "add_or_remove" if relation in SWAPPED else relation

    def delta_at(e: float) -> float:
        return delta_of(event, epsilon=e, relation=both, tol=_TOL)

    least = min(least_alpha, (1 - delta_at(0.0)) / 4)
    top = epsilon_of(event, delta=1e-3 * least, relation=both, tol=0.1) if least > 0 else math.inf
    if top == math.inf:
        return math.inf
    e = np.linspace(0.0, min(max(top, 1e-3), _MOST_EPSILON), _CELLS + 1)
    delta = np.array([delta_at(float(x)) for x in e])
    if not delta.any():
        return 0.0
    mu = math.inf
    while True:
        corners = _mu_at_corners(e, delta, least)
        before, mu = mu, min(mu, max(corners) * (1 + 1e-12) + 1e-14)
        loose = _cells_to_halve(e, delta, corners)
        if len(loose) == 0 or mu > before * (1 - _CLOSE / 10) or len(e) > _MOST_DELTAS:
            return mu
        middles = (e[loose] + e[loose + 1]) / 2
        e = np.insert(e, loose + 1, middles)
        delta = np.insert(delta, loose + 1, [delta_at(float(x)) for x in middles])


def _mu_at_corners(e: Array, delta: Array, least_alpha: float) -> list[float]:
    """The mu that each point needs where neighbouring tangents meet; the last at ``least_alpha``.

    Any points in order would do, each on the lower of its tangents: rounding breaks no proof.
    """
    delta, slope = np.minimum.accumulate(delta), np.exp(e)
    alpha = np.minimum.accumulate((delta[:-1] - delta[1:]) / np.diff(slope))
    kept = int(np.count_nonzero(alpha > least_alpha))
    alpha = np.append(alpha[:kept], least_alpha)
    power = delta[: kept + 1] + slope[: kept + 1] * alpha
    power[:-1] = np.maximum(power[:-1], delta[1 : kept + 1] + slope[1 : kept + 1] * alpha[:-1])
    return [float(mu) for mu in ndtri(np.minimum(power * (1 + 8 * ULP), 1.0)) - ndtri(alpha)]


def _cells_to_halve(e: Array, delta: Array, corners: list[float]) -> NDArray[np.intp]:
    """Those next to corners that need more than the curve does where it is touched."""
    touched = zip(e[: len(corners) - 1], delta, strict=False)
    reached = max(
        (gaussian_mu(float(x), math.log(max(d, 1e-300))) for x, d in touched), default=0.0
    )
    loose = {i for i, mu in enumerate(corners) if mu > reached * (1 + _CLOSE)}
    if len(corners) - 1 in loose:  # what touches the curve there is on either side
        loose.add(len(corners) - 2)
    return np.array(sorted(loose & set(range(len(e) - 1))), dtype=np.intp)
