"""How often guesses by a score are right and wrong, with bands: `roc`."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, rankdata

from dpfunc.accounting import Event
from dpfunc.audit.statistics.claims import claim_of
from dpfunc.audit.statistics.scores import require_confidence
from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.random.keys import fold_in, key
from dpfunc.random.subsets import uniform_index

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pairs = tuple[tuple[Array, Array], ...]  # for each target the scores inside and outside

_LEAST = 10  # wrong guesses that a rate has to be of
_RATIO = 1.5
_RESAMPLES = 100


class Estimate(NamedTuple):
    """A number with its band, at the confidence of the `Roc` that it is of."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Roc:
    """Rates of guesses by a score, for all thresholds: what `roc` gives.

    ``fpr``, ``tpr``: the curve, from (0, 0) to (1, 1). ``band``: ``[points, 4]``, for some
    thresholds lower and upper ends of the false positive and of the true positive rate.
    ``method``: what the bands hold for. ``auc``: the area, the probability that a member has the
    larger score. ``balanced_accuracy``: the largest over thresholds, and so a little too large.
    ``tests``: of how many curves at once the bands hold. ``slices``: the same of each slice.
    """

    fpr: Array
    tpr: Array
    band: Array
    auc: Estimate
    balanced_accuracy: float
    confidence: float
    tests: int
    method: str
    pairs: Pairs = field(repr=False)
    slices: Mapping[Hashable, "Roc"] = field(default_factory=dict)

    @property
    def n_in(self) -> int:
        """The number of members, over all targets."""
        return sum(len(inside) for inside, _ in self.pairs)

    @property
    def n_out(self) -> int:
        """The number of non-members, over all targets."""
        return sum(len(outside) for _, outside in self.pairs)

    def tpr_at(self, rate: float) -> Estimate:
        """The true positive rate at a false positive rate of at most ``rate``, with its band.

        The band is that of the true rate at a true false positive rate of ``rate``: the threshold
        that the data give has another. So it also widens with few non-members. ValueError below
        ``10 / n_out``: so few wrong guesses tell nothing about a rate.
        """
        rate = plain(rate)
        require(
            is_real(rate) and _LEAST / self.n_out <= rate <= 1,
            "tpr_at",
            f"a false positive rate between {_LEAST / self.n_out:.3g} and 1, of {self.n_out} "
            "non-members",
            rate,
            f"score {math.ceil(_LEAST / max(float(rate), 1e-9)):,} non-members, or pool targets"
            if is_real(rate) and 0 < rate < 1
            else "use 0.01",
        )
        rank = min(self.n_out, math.floor(rate * self.n_out * (1 + 1e-12)) + 1)
        low, high = _band_at(self.pairs, [rank], 1 - self.confidence, self.tests)[0, 2:]
        if len(self.pairs) == 1:
            low, high = _band_of_rate(self.pairs[0], rate, 1 - self.confidence, self.tests)
        hits = float(_hits(*_pooled(self.pairs), [rank])[0])
        return Estimate(hits / self.n_in, float(low), float(high))

    def above(self, event: Event) -> bool:
        """Whether the curve is, beyond chance, above what ``event`` allows any attack.

        Guesses of one model about many records stay below ``1 - accounting.tradeoff(event, rate)``
        on average over models and records (the curve is concave: Jensen). So this is a bug or a
        wrong event, up to the chance ``1 - confidence`` and to how far records of one model depend
        on each other. `test_claim` with ``setting="one_run"`` needs no such condition. Of several
        targets each has its own bands, wider for their number (Bonferroni): a bootstrap over a few
        would cry wolf.
        """
        claim, found = claim_of("above", event, "add_or_remove"), False
        for pair in (one for one in self.pairs if min(map(len, one)) > 0):
            ranks = _ranks(len(pair[1]))
            tests = self.tests * len(ranks) * len(self.pairs)
            corners = _band_at((pair,), ranks, 1 - self.confidence, tests)
            found = found or bool((corners[:, 2] > claim.power(corners[:, 1])).any())
        return found

    def __str__(self) -> str:
        rates = [0.01, 0.001]
        shown = [f"{self.tpr_at(r).value:.3f}" if r * self.n_out >= _LEAST else "-" for r in rates]
        auc = f"AUC {self.auc.value:.3f} [{self.auc.low:.3f}, {self.auc.high:.3f}]"
        tprs = ", ".join(f"TPR {s} at FPR {r:.1%}" for r, s in zip(rates, shown, strict=True))
        sure = f"{self.confidence:.0%} {self.method}, each threshold by itself"
        sure += f", {self.tests} curves at once" if self.tests > 1 else ""
        counts = f"{self.n_in} in, {self.n_out} out; {sure}"
        return f"{auc}, balanced accuracy {self.balanced_accuracy:.3f}, {tprs} ({counts})"


def roc(
    scores: Any,
    member: Any,
    *,
    by: Any = None,
    confidence: float = 0.95,
    tests: int = 1,
) -> Roc:
    """The rates of guesses "was in" by ``scores``, larger where it looks more as if.

    ``scores``, ``member``: ``[records]`` of one target, or ``[targets, records]``: pooled. ``by``:
    ``[records]``, the slice of each (its class, how hard it is, anything): each has a curve of its
    own, as a few records may be exposed that an average hides. ``tests``: of how many attacks this
    is the one with the best curve: the bands become wider by that (Bonferroni), and those of slices
    by their number, too: they hold for all slices at once, and the worst may be picked.

    Bands, for each threshold by itself. One target: the threshold is a score of a non-member, its
    true false positive rate is Beta(k, n_out + 1 - k) distributed, the true positive rate has the
    interval of Clopper and Pearson; each at half of ``1 - confidence``. That holds for records
    drawn from a population, and for this trained model; among equal scores the lower end of the
    false positive rate may be too high. The area's is DeLong's, asymptotic (6.7 % missed for 5 %).
    Several targets: records repeat, so targets are drawn again (bootstrap): no guarantee.

    | case | result |
    |---|---|
    | fewer than 10 members, or 10 non-members, in all or in a slice | ValueError |
    | NaN scores | ValueError |

    >>> import dpfunc as dp
    >>> member = dp.bernoulli(dp.key(0), (2000,), probability=0.5)
    >>> curve = roc(dp.normal(dp.key(1), (2000,)) + 1.0 * member, member)
    >>> round(curve.auc.value, 2), round(curve.tpr_at(0.1).value, 1)
    (0.76, 0.4)
    """
    values, is_in = np.asarray(scores, dtype=np.float64), np.asarray(member)
    require(
        values.ndim in (1, 2) and is_in.dtype == np.bool_ and is_in.shape == values.shape,
        "roc",
        "scores [records] or [targets, records] and as many booleans in member",
        f"{values.shape} and {is_in.dtype} {is_in.shape}",
        "say for each score whether the record was in",
    )
    require(
        not np.isnan(values).any(),
        "roc",
        "scores that can be compared",
        f"{int(np.isnan(values).sum())} NaN",
        "look for what went wrong in the attack",
    )
    level, tests = require_confidence("roc", confidence), plain(tests)
    require(is_count(tests) and tests >= 1, "roc", "tests >= 1", tests, "count your attacks")
    values, is_in = np.atleast_2d(values), np.atleast_2d(is_in)

    def of(columns: Bools, tests: int, name: str, slices: Mapping[Hashable, Roc]) -> Roc:
        rows = zip(values[:, columns], is_in[:, columns], strict=True)
        return _roc(tuple((s[m], s[~m]) for s, m in rows), level, tests, name, slices)

    slices: dict[Hashable, Roc] = {}
    if by is not None:
        label = np.asarray(by)
        require(
            label.shape == values.shape[1:],
            "roc",
            f"by: a slice for each of {values.shape[1]} records",
            label.shape,
            "pass one label a record",
        )
        every = np.unique(label).tolist()
        slices = {s: of(label == s, tests * len(every), f"slice {s!r}", {}) for s in every}
    return of(np.ones(values.shape[1], dtype=bool), tests, "all", slices)


def _roc(
    pairs: Pairs, confidence: float, tests: int, name: str, slices: Mapping[Hashable, Roc]
) -> Roc:
    inside, outside = _pooled(pairs)
    require(
        min(len(inside), len(outside)) >= _LEAST,
        "roc",
        f"at least {_LEAST} members and {_LEAST} non-members ({name})",
        f"{len(inside)} and {len(outside)}",
        "score more records, pool targets, or make fewer slices",
    )
    thresholds = np.unique(outside)[::-1]
    above_in, above_out = _above(inside, thresholds), _above(outside, thresholds)
    fpr = np.append(above_out / len(outside), 1.0)
    tpr = np.append(above_in / len(inside), 1.0)
    fpr, tpr = np.insert(fpr, 0, 0.0), np.insert(tpr, 0, 0.0)
    alpha = 1 - confidence
    area = _auc(pairs)
    error = _spread(pairs, _auc) if len(pairs) > 1 else _auc_error(inside, outside)
    half = float(norm.isf(alpha / tests / 2)) * float(error)
    kind = "bands, exact for records drawn from a population and this one model"
    if len(pairs) > 1:
        kind = f"bands by a bootstrap over {len(pairs)} targets, no guarantee"
    return Roc(
        fpr,
        tpr,
        _band_at(pairs, _ranks(len(outside)), alpha, tests),
        Estimate(area, max(0.0, area - half), min(1.0, area + half)),
        float((tpr - fpr + 1).max() / 2),
        confidence,
        tests,
        kind,
        pairs,
        slices,
    )


def _band_at(pairs: Pairs, ranks: list[int], alpha: float, tests: int) -> Array:
    """At the ``rank``-th largest score of the non-members: ends of both rates, ``[ranks, 4]``."""
    inside, outside = _pooled(pairs)
    n_in, n_out, k = len(inside), len(outside), np.array(ranks)
    if len(pairs) > 1:
        hits = _hits(inside, outside, ranks) / n_in
        error = _spread(pairs, lambda p: _hits(*_pooled(p), ranks) / len(_pooled(p)[0]))
        half = float(norm.isf(alpha / tests / 2)) * error
        rate = (k - 1) / n_out
        return np.stack([rate, rate, np.maximum(0, hits - half), np.minimum(1, hits + half)], 1)
    hits, tail = _hits(inside, outside, ranks), alpha / tests / 4  # two rates, two sides
    low = np.where(hits == 0, 0.0, beta.ppf(tail, np.maximum(hits, 1), n_in - hits + 1))
    high = np.where(hits == n_in, 1.0, beta.isf(tail, hits + 1, np.maximum(n_in - hits, 1)))
    fpr_low, fpr_high = beta.ppf(tail, k, n_out + 1 - k), beta.isf(tail, k, n_out + 1 - k)
    return np.stack([fpr_low, fpr_high, low, high], 1)


def _band_of_rate(pair: tuple[Array, Array], rate: float, alpha: float, tests: int) -> Array:
    """At a true false positive rate: between a threshold surely above it, and one surely below."""
    n_in, n_out, tail = len(pair[0]), len(pair[1]), alpha / tests / 4
    k = np.arange(1, n_out + 1)
    stricter = k[beta.isf(tail, k, n_out + 1 - k) <= rate]
    looser = k[beta.ppf(tail, k, n_out + 1 - k) >= rate]
    low = _band_at((pair,), [int(stricter[-1])], alpha, tests)[0, 2] if len(stricter) else 0.0
    # With scores equal to the looser threshold: of those alone the rate is surely at least that.
    threshold = np.sort(pair[1])[-looser[0]] if len(looser) else -math.inf
    hits = int((pair[0] >= threshold).sum())
    return np.array([low, beta.isf(tail, hits + 1, n_in - hits) if hits < n_in else 1.0])


def _hits(inside: Array, outside: Array, ranks: list[int]) -> Array:
    """How many members lie strictly above the ``rank``-th largest score of the non-members."""
    ordered = np.sort(outside)[::-1]
    return _above(inside, ordered[np.minimum(np.array(ranks), len(ordered)) - 1])


def _above(scores: Array, thresholds: Array) -> Array:
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, "right"), float)


def _ranks(count: int) -> list[int]:
    steps = range(1 + math.ceil(math.log(count, _RATIO)))
    return sorted({min(count, round(_RATIO**j)) for j in steps})


def _pooled(pairs: Pairs) -> tuple[Array, Array]:
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _auc(pairs: Pairs) -> float:
    inside, outside = _pooled(pairs)
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.mean() - (len(inside) + 1) / 2) / len(outside))


def _auc_error(inside: Array, outside: Array) -> float:
    """Of one target: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44."""
    together = rankdata(np.concatenate([inside, outside]))
    wins = (together[: len(inside)] - rankdata(inside)) / len(outside)
    losses = (together[len(inside) :] - rankdata(outside)) / len(inside)
    return math.sqrt(wins.var(ddof=1) / len(inside) + losses.var(ddof=1) / len(outside))


def _spread(pairs: Pairs, statistic: Callable[[Pairs], Any]) -> Any:
    """The standard deviation of ``statistic`` when targets are drawn again with replacement."""
    bootstrap = fold_in(key(0), "bootstrap")  # public: no privacy rests on it
    drawn = uniform_index(bootstrap, _RESAMPLES * len(pairs), below=len(pairs))
    rows = drawn.view(_RESAMPLES, -1).tolist()
    return np.std([statistic(tuple(pairs[i] for i in row)) for row in rows], axis=0, ddof=1)
