"""Scores that are independent given membership: an exact test at thresholds that they choose.

The threshold is the k-th largest score of the ``n_out`` canaries that were out; canaries strictly
above it are guessed to be in. The rate of false positives is then at most a U, distributed like
Beta(k, n_out + 1 - k) (smaller with ties), and the scores of those that were in are independent of
it. A claim T, increasing, makes the number of them above the threshold at most binomial:

    P[at least c of n_in above] <= E[ P[Bin(n_in, T(U)) >= c] ] = p,

which is a p-value, without a second confidence interval and without splitting the data. It may be
the same data because the threshold depends on the out-scores alone; a threshold that the in-scores
had a say in would void it. The same with the roles exchanged: the k-th smallest in-score, and the
out-scores strictly below it. All ranks together: the number of tests times the least p.

The integral is a sum over cells of U, each with the probability that it has and the value at its
upper end: T increases, so that the sum is never too small.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv, expit

from dpfunc.audit.statistics.claims import Claim
from dpfunc.audit.statistics.scores import Array, Scores

_CELLS = np.asarray(expit(np.linspace(-20.0, 20.0, 2001)))
_RATIO = 1.5
_UP = 1 + 1e-9
_CLOSE = 1e-6
_MOST = 512.0


class RankTest(NamedTuple):
    """Of ``others`` scores, ``beyond`` lie strictly beyond the ``rank``-th extreme of the rest."""

    rank: int
    reference: int
    beyond: int
    others: int


def rank_tests(scores: Scores) -> list[RankTest]:
    """All tests that are made of these scores: ranks 1, 2, 3, 5, 8, 11, ... in both roles."""
    inside, outside = np.sort(scores.inside), np.sort(scores.outside)
    n_in, n_out = len(inside), len(outside)
    found = [
        RankTest(k, n_out, n_in - int(np.searchsorted(inside, outside[n_out - k], "right")), n_in)
        for k in ranks(n_out)
    ]
    found += [
        RankTest(k, n_in, int(np.searchsorted(outside, inside[k - 1], "left")), n_out)
        for k in ranks(n_in)
    ]
    return found


def ranks(count: int) -> list[int]:
    """1, 2, 3, 5, 8, 11, ..., each 1.5 times the last, up to half of ``count``."""
    most = max(1, count // 2)
    steps = range(1 + math.ceil(math.log(most, _RATIO)))
    return sorted({k for k in (round(_RATIO**j) for j in steps) if k <= most})


@lru_cache(maxsize=50_000)
def p_value(test: RankTest, claim: Claim) -> float:
    """The p-value of one test: an upper bound, at most a few percent above it and 5e-9 more."""
    if test.beyond == 0:
        return 1.0
    rates, masses = _cells(test.rank, test.reference)
    power = np.minimum(claim.power(rates), 1.0)
    tail = betainc(test.beyond, test.others - test.beyond + 1, power)
    return min(1.0, float(masses[:-1] @ tail + masses[-1]) * _UP)


def combined(tests: list[RankTest], claim: Claim) -> float:
    """The p-value of all tests together (Bonferroni)."""
    return min(1.0, len(tests) * min(p_value(test, claim) for test in tests))


def largest_refuted(
    tests: list[RankTest], claim_at: Callable[[float], Claim], alpha: float
) -> float:
    """The largest x, to 1e-6 below, whose claim is refuted; 0 where none is.

    Claims grow with x, and every p-value with them: so bisection serves.
    """
    level = alpha / len(tests)
    largest = 0.0
    for test in tests:
        if p_value(test, claim_at(largest)) > level:
            continue
        low, high = largest, max(1.0, 2 * largest)
        while p_value(test, claim_at(high)) <= level and high < _MOST:
            low, high = high, 2 * high
        while high - low > _CLOSE * max(1.0, low):
            middle = (low + high) / 2
            if p_value(test, claim_at(middle)) <= level:
                low = middle
            else:
                high = middle
        largest = low
    return largest


def can_refute(n_in: int, n_out: int, claim: Claim, alpha: float) -> bool:
    """Whether scores that tell everything would refute the claim."""
    perfect = [RankTest(k, n_out, n_in, n_in) for k in ranks(n_out)]
    perfect += [RankTest(k, n_in, n_out, n_out) for k in ranks(n_in)]
    return combined(perfect, claim) <= alpha


@lru_cache(maxsize=512)
def _cells(rank: int, count: int) -> tuple[Array, Array]:
    """Upper ends of the cells of U, and their probabilities; the last of all that is above them.

    The ends may be any numbers: their probabilities are those of the ends as they came out.
    """
    ends = np.maximum.accumulate(betaincinv(rank, count + 1 - rank, _CELLS))
    below = betainc(rank, count + 1 - rank, ends)
    masses = np.diff(below, prepend=0.0, append=1.0)
    return ends, np.maximum(masses, 0.0)
