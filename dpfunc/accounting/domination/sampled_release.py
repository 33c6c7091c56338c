"""Which pair dominates a mechanism on a sample of the records, by scheme and neighbouring relation.

Notation: f_u is the noise around a sum that is u away, x the record in question, x' what replaces
it and y whatever other record takes its place in a batch; all of them contribute at most 1, so any
two are at most 2 apart. For a test, a_u is the chance that it says yes under f_u. Between two sums
at a distance d, the a's are bounded by the threshold test on the line (`laplace_mixture`). A bound
on ``P(yes) - exp(epsilon) Q(yes)`` in terms of them that sums on the line attain is a dominating
curve, and so that of a pair (Zhu, Dong and Wang 2022, arXiv:2106.08567). The rest of the batch is
fixed first: the curve is an average over it at most, because delta is jointly convex in P and Q.
"""

import math

from scipy.special import bdtrc

from dpfunc.accounting.domination.release import (
    Additive,
    Moves,
    Order,
    Relation,
    additive_pair,
    mechanism_pair,
    mixture_pair,
    unproven,
)
from dpfunc.accounting.events.mechanisms import (
    ZCDP,
    MixtureOfGaussians,
    RandomizedResponse,
)
from dpfunc.accounting.events.schemes import (
    Poisson,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.pairs.combine import either, sampled, symmetric
from dpfunc.accounting.pairs.privacy_loss import ULP, Pair
from dpfunc.checks import require

_MOST_DRAWS = 40  # of one record with replacement; more count as the whole batch
_RARE = 1e-22
_NOTHING = 1e-12  # of a chance, which lower ends may be off by
_BINOMIAL = 1e-11  # relative error of SciPy's binomial tails, with a margin (measured: 2e-13)


def poisson_pair(event: Poisson, relation: Relation, order: Order, records: int) -> Pair:
    """A Poisson sample: each of the ``records`` that change together is read with the same chance.

    Noise on a sum: it moves by one contribution for each record that is read, away from where it is
    without any (for one record: Zhu, Dong and Wang 2022, theorem 11; Lebeda et al. 2024,
    arXiv:2405.20769, for replacement; for a group that comes or goes as a whole: Ganesh 2024,
    arXiv:2401.10294, theorem 3.1). A promise: theorem 11 for a record that comes or goes; for one
    that changes its value the promise holds where it is read, and averages.
    """
    rate, mechanism = event.sample_rate, event.event
    if isinstance(mechanism, Additive):
        return _moved(mechanism, _reads(records, rate), order)
    if records > 1:
        raise unproven(event, relation, "for groups, only sums with noise are covered")
    match mechanism:
        case MixtureOfGaussians():
            return mixture_pair(mechanism, relation, order, rate)
        case ZCDP():
            raise unproven(event, relation, "ZCDP bounds moments only; say which mechanism it is")
    base = mechanism_pair(mechanism, relation, order)
    if relation in ("zero_out", "replace_one"):
        return either([(rate, base)])
    return sampled(base, rate, adds=order == "add")


def without_replacement_pair(event: WithoutReplacement, relation: Relation, order: Order) -> Pair:
    """A uniform subset of fixed size, in which x pushes out a y.

    Given the rest of the batch and y, ``P = (1-q) f_y + q f_x``. Without x, ``Q = f_y``: the
    mixture at distance 2. With x' for x, ``Q = (1-q) f_y + q f_x'``, and the bound on ``q a_x -
    (1-q) (exp(epsilon) - 1) a_y - q exp(epsilon) a_x'`` is attained at y = x' where epsilon >= 0
    (which Balle, Barthe and Gaboardi 2018, arXiv:1807.01647, section 4, prove for any mechanism),
    and below 0 at y = x, its mirror image. Zeroing x out is a replacement.
    """
    mechanism = event.event
    rate = math.nextafter(event.batch_size / event.dataset_size, 1.0)
    if isinstance(mechanism, Additive):
        if relation in ("zero_out", "replace_one"):
            return symmetric(additive_pair(mechanism, ((2, rate),)))
        return _moved(mechanism, ((2, rate),), order)
    _require_value_relation(event, relation)
    base = mechanism_pair(mechanism, relation, order)
    if relation == "zero_out":
        return either([(rate, base)])
    return symmetric(sampled(base, rate, adds=False))


def with_replacement_pair(event: WithReplacement, relation: Relation, order: Order) -> Pair:
    """Independent draws: x is drawn k times with a binomial chance and counts k times.

    Without x, others are drawn in its places: the mixture at distances 2k. With x' for x: Balle,
    Barthe and Gaboardi 2018 (arXiv:1807.01647), section 4, with the group profiles for k copies;
    at epsilon < 0 its mirror image. Zeroing x out is a replacement.
    """
    mechanism, draws = event.event, _draws(event.batch_size, event.dataset_size)
    if isinstance(mechanism, Additive) and relation in ("add_or_remove", "add", "remove"):
        return _moved(mechanism, tuple((2 * k, weight) for k, weight in draws), order)
    if isinstance(mechanism, RandomizedResponse):
        raise unproven(event, relation, "a record drawn twice answers twice")
    _require_value_relation(event, relation)
    promised: Relation = "replace_one" if isinstance(mechanism, Additive) else relation
    parts = [(weight, mechanism_pair(mechanism, promised, order, k)) for k, weight in draws]
    if relation == "zero_out" and not isinstance(mechanism, Additive):
        return either(parts)
    drawn = min(1.0, math.fsum(weight for _, weight in draws))
    base = either([(weight / drawn, pair) for weight, pair in parts], rounding=4 * ULP)
    return symmetric(sampled(base, drawn, adds=False))


def truncated_poisson_pair(event: TruncatedPoisson, relation: Relation, order: Order) -> Pair:
    """A Poisson sample, cut down to a uniform subset of the cap where it is larger.

    Let R be the sample of the other records. Where R is below the cap nothing is cut, with or
    without x. Where it is not, with probability t, the batch without x is a uniform subset U of the
    others, whatever the size of R; with x it is x and a uniform subset one smaller with probability
    ``p = q E[cap / (|R| + 1)]`` given the cut, and U otherwise. So the two cases are a Poisson
    sample at q and a fixed-size sample at rate p, and it does no harm to tell which. (Ganesh 2025,
    arXiv:2508.15089, accounts the second as a replacement at rate p, which is further apart.)
    """
    mechanism, rate = event.event, event.sample_rate
    if not isinstance(mechanism, Additive):
        raise unproven(event, relation, "only sums with noise are covered")
    cut, cut_rate = _cut(event)
    plain = _moved(mechanism, ((1, rate),), order)
    if relation in ("zero_out", "replace_one"):
        fixed = symmetric(additive_pair(mechanism, ((2, cut_rate),)))
    else:
        fixed = _moved(mechanism, ((2, cut_rate),), order)
    if cut == 0:
        return plain
    return either([(1 - cut, plain), (cut, fixed)], rounding=_BINOMIAL)


def _moved(mechanism: Additive, moves: Moves, order: Order) -> Pair:
    """The sum moves under P, under Q, or away from each other under both."""
    match order:
        case "remove":
            return additive_pair(mechanism, above=moves)
        case "add":
            return additive_pair(mechanism, below=moves)
        case "replace_one":
            return additive_pair(mechanism, above=moves, below=moves)


def _reads(records: int, rate: float) -> Moves:
    """How many of the records are read, with probabilities rounded up (more moves, more loss).

    All of them: what is left over at rest is 1 less their sum, which rounds by as much.
    """
    if records == 1 or rate == 1:
        return ((records, rate),)
    require(records <= 1000, "Group", "at most 1000 records under sampling", records, "split it")
    moves = [(k, _binomial(k, records, rate)) for k in range(1, records)]
    # What underflows moves all the way, too: 1e-270 is more than its sum.
    moves = [(k, weight) for k, weight in moves if weight > 1e-280]
    moves.append((records, _binomial(records, records, rate) + 1e-270))
    return tuple(moves) if math.fsum(weight for _, weight in moves) < 1 else ((records, 1.0),)


def is_left_known(records: int, rate: float) -> bool:
    """Whether rounding `_reads` up takes nothing to speak of from the chance that none is read."""
    return rate == 1 or (1 - rate) ** records > _rounded_up(records) / _NOTHING


def _draws(batch_size: int, dataset_size: int) -> Moves:
    """How often a record is drawn, and with what probability; rare many draws count as all."""
    rate, draws = 1 / dataset_size, []
    for k in range(1, min(batch_size, _MOST_DRAWS) + 1):
        draws.append((k, _binomial(k, batch_size, rate)))
        more = float(bdtrc(k, batch_size, rate)) * (1 + _BINOMIAL) if k < batch_size else 0.0
        if more < _RARE:
            break
    draws.append((batch_size, max(more, 1e-270)))
    return tuple(draws)


def _rounded_up(n: int) -> float:
    """How far `_binomial` of n goes up, relative: more than it is rounded by."""
    return (8 + 4 * n) * ULP


def _binomial(k: int, n: int, rate: float) -> float:
    """The probability of k out of n, rounded up."""
    return math.comb(n, k) * rate**k * (1 - rate) ** (n - k) * (1 + _rounded_up(n))


def _cut(event: TruncatedPoisson) -> tuple[float, float]:
    """The chance that a sample of the others reaches the cap, and the rate of x given that."""
    others, cap, rate = event.dataset_size - 1, event.max_batch_size, event.sample_rate
    if cap > others:
        return 0.0, 0.0
    cut = float(bdtrc(cap - 1, others, rate))
    if cut == 0:
        return 0.0, 0.0
    taken = cap * float(bdtrc(cap, event.dataset_size, rate)) / (event.dataset_size * cut)
    return cut, min(taken * (1 + _BINOMIAL), rate * cap / (cap + 1) * (1 + 8 * ULP))


def _require_value_relation(event: object, relation: Relation) -> None:
    if relation not in ("zero_out", "replace_one"):
        raise unproven(event, relation, "the batch size is fixed: ask about replace_one")
