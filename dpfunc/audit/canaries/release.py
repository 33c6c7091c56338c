"""What a run released along its canaries: scores, and four tests of the law before any bound."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from dpfunc.accounting import Event, Gaussian, Poisson
from dpfunc.accounting.domination.composition import dominating_pair
from dpfunc.accounting.events.dp_sgd import phases
from dpfunc.audit.statistics.answers import epsilon_lower_bound, mu_lower_bound
from dpfunc.audit.statistics.answers import test_claim as claim_test
from dpfunc.audit.statistics.claims import claim_of
from dpfunc.audit.statistics.rank_test import can_refute
from dpfunc.audit.statistics.scores import Array, Result, Scores
from dpfunc.checks import is_real, plain, require

Bools = NDArray[np.bool_]

_TESTS = 4
_NEVER = -700.0  # the logarithm of a chance that changes no p-value
_AT_ONCE = 4_000_000  # numbers, which bounds memory


@dataclass(frozen=True)
class ReleaseAudit:
    """Four tests of what was released, then what the scores of the canaries prove.

    ``p_values``: of values with the record against P of the accountant's pair, of values without
    against Q (Kolmogorov and Smirnov), of the spread of canaries' sums (chi square: a record that
    counts too often, or a noise that is used again), of values in successive steps (correlation).
    ``p_value``: of all four. They see a wrong noise, clipping or rate at once; the bounds do not.
    ``claim``: the p-value of `test_claim`; None where so few scores, however good, could not
    refute so large a claim.
    """

    p_values: dict[str, float]
    p_value: float
    claim: Result | None
    mu: Result
    epsilon: Result
    scores: Scores


def release_scores(projections: Any, *, noise_multiplier: float, sample_rate: float) -> Array:
    """The privacy loss of each canary, from what was released along it: ``[steps, m]`` to ``[m]``.

    ``sum_t log(1 - q + q exp((2 o_t - 1) / (2 sigma**2)))`` with ``projections`` o in units of the
    bound: the logarithm of the likelihood ratio, the most powerful score there is (Neyman and
    Pearson). The sum of the projections would forget when the canary was sampled.

    >>> scores = release_scores([[1.0, 0.0], [0.0, 0.0]], noise_multiplier=0.5, sample_rate=0.1)
    >>> bool(scores[0] > 0 > scores[1])
    True
    """
    values = _rows(projections)
    sigma, rate = plain(noise_multiplier), plain(sample_rate)
    require(
        is_real(sigma) and 0 < sigma < math.inf and is_real(rate) and 0 < rate <= 1,
        "release_scores",
        "a noise_multiplier > 0 and a sample_rate in (0, 1]",
        (sigma, rate),
        "pass those of the run",
    )
    gain = (2 * values - 1) / (2 * sigma**2) + math.log(rate)
    never = math.log1p(-rate) if rate < 1 else -math.inf
    losses: Array = np.logaddexp(never, gain).sum(0)
    return losses


def audit_release(
    projections: Any, member: Any, event: Event, *, delta: float, confidence: float = 0.95
) -> ReleaseAudit:
    """Audit a run of DP-SGD by canaries: ``projections`` ``[steps, m]``, ``member`` bool ``[m]``.

    ``projections``: what was released along each canary in units of the bound: see
    `gradient_canaries`. ``event``: that of the run, ``Poisson(rate, Gaussian(sigma)) * steps``.
    The four tests are about independent draws of the accountant's pair; then `test_claim`,
    `mu_lower_bound` and `epsilon_lower_bound` say what the scores alone prove. Independence of the
    canaries is a property of the mechanism; for coins of one run, which assume less, pass
    ``.scores`` to the same three with ``setting="one_run"``.

    Guarantee: if the run is what the event says, each p-value is below alpha with probability at
    most alpha, up to rounding. The laws of all four statistics are known exactly (`four_tests`);
    above 10,000 values that of Kolmogorov and Smirnov is the limit's.

    | case | result |
    |---|---|
    | an event of several noises or rates, or of another number of steps | ValueError |
    | no canary in, or none out; NaN | ValueError |
    """
    values, is_in = _rows(projections), np.asarray(member, dtype=bool)
    require(
        is_in.shape == values.shape[1:] and 0 < int(is_in.sum()) < len(is_in),
        "audit_release",
        "one bool for each canary, some in and some out",
        f"{is_in.sum()} of {is_in.shape} for {values.shape}",
        "pass the coins",
    )
    read = phases(event)
    require(
        len(read) == 1 and read[0][2] == len(values) and 0 < read[0][0] < math.inf,
        "audit_release",
        f"an event of {len(values)} equal steps with noise",
        event,
        "pass accounting.dp_sgd(...) of the run, or audit its phases apart",
    )
    sigma, rate, _ = read[0]
    scores = release_scores(values, noise_multiplier=sigma, sample_rate=rate)
    one = Scores(tuple(scores[is_in]), tuple(scores[~is_in]), fair_coins=True)
    p_values = four_tests(values, is_in, sigma, rate)
    claim = claim_of("audit_release", event, "add_or_remove")
    refutable = can_refute(len(one.inside), len(one.outside), claim, 1 - confidence)
    return ReleaseAudit(
        p_values,
        min(1.0, _TESTS * min(p_values.values())),
        claim_test(one, event, confidence=confidence) if refutable else None,
        mu_lower_bound(one, confidence=confidence),
        epsilon_lower_bound(one, delta=delta, confidence=confidence),
        one,
    )


def four_tests(values: Array, is_in: Bools, sigma: float, rate: float) -> dict[str, float]:
    """P-values of ``values`` ``[steps, m]``, in units of the bound: each is exact.

    Under the claim all values are independent; of canaries that are out they are ``sigma z``, of
    the others ``b + sigma z``. So the distribution function of each value, and of each canary's
    sum over steps, is known. A number put through its own distribution function, and then through
    the inverse of the normal one, is standard normal.
    """
    rows = values / sigma
    pair: Any = dominating_pair(Poisson(rate, Gaussian(sigma)), "remove", "remove")
    return {
        "in": float(scipy.stats.kstest(rows[:, is_in].ravel(), lambda y: pair.cdfs(y)[0]).pvalue),
        "out": float(scipy.stats.kstest(rows[:, ~is_in].ravel(), lambda y: pair.cdfs(y)[1]).pvalue),
        "spread": spread_test(rows, is_in, sigma, rate),
        "lag": lag_test(rows, is_in, sigma, rate),
    }


def spread_test(rows: Array, is_in: Bools, sigma: float, rate: float) -> float:
    """Of ``[steps, m]`` in units of the noise: the m sums over steps, each as a normal number, have
    squares that are together chi square."""
    sums = _normal(rows.sum(0), is_in, len(rows), sigma, rate)
    spread, freedom = float(np.square(sums).sum()), len(is_in)
    tail = scipy.stats.chi2.cdf(spread, freedom), scipy.stats.chi2.sf(spread, freedom)
    return min(1.0, 2 * float(min(tail)))


def lag_test(rows: Array, is_in: Bools, sigma: float, rate: float) -> float:
    """Of ``[steps, m]`` in units of the noise: products of successive values, each as a normal one.

    Every such product has one value of an odd step. Given those of even steps, the sum of all
    products is a sum of independent normal numbers with known factors: each odd value times the sum
    of its two neighbours.
    """
    if len(rows) < 2:
        return 1.0
    scores = _normal(rows.ravel(), np.tile(is_in, len(rows)), 1, sigma, rate).reshape(rows.shape)
    ends = np.zeros((1, rows.shape[1]))
    neighbours = np.concatenate([ends, scores[:-1]]) + np.concatenate([scores[1:], ends])
    odd, given = scores[1::2], neighbours[1::2]
    z = float((odd * given).sum()) / math.sqrt(float(np.square(given).sum()))
    return 2 * float(scipy.stats.norm.sf(abs(z)))


def _normal(sums: Array, is_in: Bools, steps: int, sigma: float, rate: float) -> Array:
    """``[m]`` sums over ``steps``, in units of the noise, as standard normal numbers.

    The smaller tail by its logarithm: no number, however far out, becomes infinite.
    """
    scores: Array = sums / math.sqrt(steps)
    counts = np.arange(steps + 1)
    chances = scipy.stats.binom.logpmf(counts, steps, rate)
    counts, chances = counts[chances > _NEVER], chances[chances > _NEVER]
    for part in np.array_split(np.flatnonzero(is_in), 1 + is_in.sum() * len(counts) // _AT_ONCE):
        places = (sums[part][:, None] - counts / sigma) / math.sqrt(steps)
        below, above = (
            np.minimum(0.0, logsumexp(chances + log_ndtr(side), axis=1))
            for side in (places, -places)
        )
        scores[part] = np.where(below < above, ndtri_exp(below), -ndtri_exp(above))
    return scores


def _rows(projections: Any) -> Array:
    values = np.asarray(projections, dtype=np.float64)
    require(
        values.ndim == 2 and values.size > 0 and bool(np.isfinite(values).all()),
        "release",
        "projections [steps, canaries], finite",
        f"shape {values.shape}",
        "stack what was released along the canaries, one row a step",
    )
    return values
