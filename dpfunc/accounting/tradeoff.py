"""What an adversary can do: error rates, advantage, Bayes risk, reconstruction, all from delta.

For one order (P, Q) of the neighbouring data sets, every test with false-positive rate alpha (on Q)
has a false-negative rate (on P) of at least ``f(alpha) = max over epsilon of 1 - delta(epsilon) -
e**epsilon alpha`` (Wasserman and Zhou 2010; Dong, Roth and Su 2019, arXiv:1905.02383, proposition
2.12). Any one epsilon gives a valid lower bound, so an upper bound of delta is all it takes; here
it is the worse order's, for both orders.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from dpfunc.accounting.algebra import Event
from dpfunc.accounting.gaussian import gaussian_log_delta
from dpfunc.accounting.questions import delta as delta_of
from dpfunc.accounting.questions import epsilon as epsilon_of
from dpfunc.accounting.release import Relation
from dpfunc.checks import is_real, require

_TOL = 1e-4  # of each delta asked for on the way


def tradeoff(event: Event, *, alpha: float, relation: Relation = "add_or_remove") -> float:
    """The least false-negative rate of any test whose false-positive rate is at most ``alpha``.

    Guarantee: no adversary who sees the release and knows everything else, and accuses the innocent
    with probability at most alpha, misses the guilty with a smaller probability; a lower bound,
    under every order of the neighbouring relation.

    >>> from dpfunc.accounting import Gaussian
    >>> round(tradeoff(Gaussian(1.0), alpha=0.05), 4)  # Phi(Phi^-1(0.95) - 1)
    0.7405
    """
    require(is_real(alpha) and 0 <= alpha <= 1, "tradeoff", "an alpha in [0, 1]", alpha, "use 0.01")
    if alpha == 1:
        return 0.0

    def delta_at(e: float) -> float:
        return delta_of(event, epsilon=e, relation=relation, tol=_TOL)

    far = epsilon_of(event, delta=(1 - alpha) / 100, relation=relation, tol=_TOL)
    top = min(700.0, -math.log(max(alpha, 1e-300)))
    found = _best(lambda e: 1 - delta_at(e) - math.exp(e) * alpha, top)
    if relation in ("add", "remove"):
        return found
    # The other order at -epsilon: delta(-e) = 1 - exp(-e) + exp(-e) delta'(e).
    return max(found, _best(lambda e: math.exp(-e) * (1 - delta_at(e) - alpha), min(far, 700.0)))


def _best(proven: Callable[[float], float], top: float) -> float:
    """The largest of the bounds that epsilons up to ``top`` prove; each is valid."""
    tried = np.linspace(0.0, top, 13)
    values = [proven(float(e)) for e in tried]
    at = int(np.argmax(values))
    around = minimize_scalar(
        lambda e: -proven(float(e)),
        bounds=(tried[max(0, at - 1)], tried[min(12, at + 1)]),
        method="bounded",
        options={"xatol": 1e-6 * (1 + top)},
    )
    return max(0.0, -float(around.fun), values[at])


def advantage(event: Event, *, relation: Relation = "add_or_remove") -> float:
    """The largest ``true positive rate - false positive rate`` of any test: delta at epsilon 0.

    >>> from dpfunc.accounting import Gaussian
    >>> round(advantage(Gaussian(1.0)), 6)
    0.382925
    """
    return delta_of(event, epsilon=0.0, relation=relation)


def bayes_risk(event: Event, *, prior: float, relation: Relation = "add_or_remove") -> float:
    """The least error probability of guessing membership, when its prior probability is ``prior``.

    ``prior * (1 - delta(log((1 - prior) / prior)))``, a lower bound; for a negative epsilon by
    ``delta(-e) = 1 - exp(-e) + exp(-e) delta'(e)`` with the order of the pair swapped.

    >>> from dpfunc.accounting import Gaussian
    >>> round(bayes_risk(Gaussian(1.0), prior=0.1), 6)
    0.098664
    """
    require(is_real(prior) and 0 < prior < 1, "bayes_risk", "a prior in (0, 1)", prior, "use 0.5")
    likelier = max(prior, 1 - prior)
    rarer = 1 - likelier
    odds = math.log(likelier / rarer)
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
    """A mu such that the event is mu-GDP on false-positive rates from ``least_alpha`` to 1/2.

    The smallest mu whose delta curve lies above the event's at every epsilon that matters there, to
    within a grid of 100 epsilons made safe by monotonicity: a few per cent above the best.
    Never the central limit theorem.

    >>> from dpfunc.accounting import Gaussian
    >>> mu = gdp_mu(Gaussian(2.0))
    >>> 0.5 <= mu < 0.53
    True
    """
    top = epsilon_of(event, delta=least_alpha, relation=relation, tol=_TOL)
    if top == math.inf:
        return math.inf
    count = 100 if top > 0 else 1
    worst = 0.0
    for k in range(count):
        low, high = top * k / count, top * (k + 1) / count
        # Between two epsilons delta is at most its value at the lower: compare with the upper.
        target = math.log(max(delta_of(event, epsilon=low, relation=relation, tol=_TOL), 1e-300))
        worst = max(worst, _mu_with(high, target))
    return worst


def _mu_with(epsilon: float, log_delta: float) -> float:
    """The smallest mu whose Gaussian mechanism has at least this delta at epsilon."""
    low, high = 0.0, 1e-3
    while gaussian_log_delta(high, epsilon)[0] < log_delta:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if gaussian_log_delta(middle, epsilon)[0] >= log_delta else (middle, high)
        )
    return high
