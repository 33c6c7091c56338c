"""Pairs made of pairs: one of several at random, a Poisson sample, one curve for both orders."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.finite_loss import NOTHING_TOLD, FiniteLoss, finite_loss, gather
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells, Pair
from dpfunc.checks import require


def either(parts: Sequence[tuple[float, Pair]], *, rounding: float = 0.0) -> Pair:
    """Each pair with its probability, and it is known which: the curves of delta average.

    By joint convexity this dominates the release in which it is not known. Weights left over to 1
    release nothing; ``rounding`` bounds the relative error of the weights.
    """
    left = max(0.0, 1.0 - math.fsum(weight for weight, _ in parts))
    whole = [*parts, (left, NOTHING_TOLD)] if left > 0 else list(parts)
    if rounding == 0 and all(isinstance(pair, FiniteLoss) for _, pair in whole):
        return finite_loss(
            (loss, weight * p, weight * r)
            for weight, pair in whole
            for loss, p, r in pair.values  # type: ignore[attr-defined]  # all are atoms
        )
    return Either(tuple(whole), rounding)


def sampled(pair: Pair, rate: float, *, adds: bool) -> Pair:
    """A Poisson sample: the record that is removed, or ``adds`` itself, is read at ``rate``.

    With (P, Q) for a removal the sample is dominated by ``((1-q) Q + q P, Q)``, with (P, Q) for an
    addition by ``(P, (1-q) P + q Q)`` (Zhu, Dong and Wang 2022, arXiv:2106.08567, theorem 11).
    """
    if rate == 1:
        return pair
    if not isinstance(pair, FiniteLoss):
        return Sampled(pair, rate, adds)
    loss, p, r = np.array(pair.values).T
    if adds:
        mixed = zip(-_log_mix(-loss, rate), p, (1 - rate) * p + rate * r, strict=True)
    else:
        mixed = zip(_log_mix(loss, rate), (1 - rate) * r + rate * p, r, strict=True)
    return finite_loss((float(x), float(y), float(z)) for x, y, z in mixed)


def symmetric(pair: Pair) -> Pair:
    """What dominates a symmetric relation whose curve is that of ``pair`` at every epsilon >= 0.

    At epsilon < 0 the curve follows from the other order, which is the same pair of data sets:
    ``delta(-e) = 1 - exp(-e) + exp(-e) delta(e)``. So losses above 0 are those of ``pair``, losses
    below 0 their mirror images with P and Q exchanged, and what is left tells nothing. The curve is
    convex, as the curve of a pair has to be, where that rest is not negative.
    """
    if not isinstance(pair, FiniteLoss):
        return Symmetric(pair)
    above = [value for value in pair.values if value[0] > 0]
    rest = 1 - math.fsum(p for _, p, _ in above) - math.fsum(r for _, _, r in above)
    _require_rest(rest, 1e-12)
    return finite_loss([*above, (0.0, rest, rest), *((-loss, r, p) for loss, p, r in above)])


@dataclass(frozen=True)
class Either:
    """See `either`; weights sum to 1."""

    parts: tuple[tuple[float, Pair], ...]
    rounding: float

    def nodes(self, count: int, tail: float) -> Array:
        """Those of all the parts that have more than the tail."""
        count, tail = max(2, count // len(self.parts)), tail / len(self.parts)
        each = [pair.nodes(count, tail / w) for w, pair in self.parts if w > tail]
        return np.unique(np.concatenate(each))

    def cells(self, nodes: Array) -> Cells:
        """The weighted sum over the parts."""
        weights = np.array([weight for weight, _ in self.parts])
        each = [pair.cells(nodes) for _, pair in self.parts]
        p = np.tensordot(weights, [cells.p for cells in each], 1)
        r = np.tensordot(weights, [cells.r for cells in each], 1)
        p_error = np.tensordot(weights, [cells.p_error for cells in each], 1)
        r_error = np.tensordot(weights, [cells.r_error for cells in each], 1)
        rounding = self.rounding + 4 * len(each) * ULP
        shift = max(cells.shift for cells in each)
        return Cells(p, r, p_error + rounding * p, r_error + rounding * r, shift)


@dataclass(frozen=True)
class Sampled:
    """See `sampled`; for pairs without atoms at their ends."""

    pair: Pair
    rate: float
    adds: bool

    def nodes(self, count: int, tail: float) -> Array:
        """The losses that those of the sampled pair become."""
        return np.unique(self.mixed(self.pair.nodes(count, tail)))

    def mixed(self, losses: Array) -> Array:
        """What losses of the sampled pair become."""
        return -_log_mix(-losses, self.rate) if self.adds else _log_mix(losses, self.rate)

    def cells(self, nodes: Array) -> Cells:
        """The cells of the sampled pair between the losses that become the nodes, mixed."""
        places, shift = self._places(nodes)
        finite = np.unique(np.append(places[np.isfinite(places)], 0.0))
        base = self.pair.cells(finite)
        last = np.searchsorted(finite, places)  # the last cell of the base up to each node
        last[places == -math.inf] = -1
        cell = np.searchsorted(last, np.arange(len(finite) + 1), side="left")
        p, r, p_error, r_error = (
            gather(cell, part, len(nodes) + 1)
            for part in (base.p, base.r, base.p_error, base.r_error)
        )
        q = self.rate
        mixed = (1 - q) * p + q * r if self.adds else (1 - q) * r + q * p
        error = (1 - q) * p_error + q * r_error if self.adds else (1 - q) * r_error + q * p_error
        error += 4 * ULP * mixed
        shift += base.shift
        if self.adds:
            return Cells(p, mixed, p_error, error, shift)
        return Cells(mixed, r, error, r_error, shift)

    def _places(self, nodes: Array) -> tuple[Array, float]:
        """The losses that become the nodes, and how far off those may be in the nodes' terms."""
        sign = -1.0 if self.adds else 1.0
        places = sign * _unmix(sign * nodes, self.rate)
        finite = np.isfinite(places)
        # Up a little, so that rounding leaves nothing above a node that is the largest loss.
        places[finite] += 4 * ULP * (1 + np.abs(places[finite]))
        again = sign * _log_mix(sign * places[finite], self.rate)
        missed = np.abs(again - nodes[finite]).max(initial=0.0)
        return places, float(missed + 8 * ULP * (1 + np.abs(nodes).max(initial=0.0)))


@dataclass(frozen=True)
class Symmetric:
    """See `symmetric`."""

    pair: Pair

    def nodes(self, count: int, tail: float) -> Array:
        """The positive losses, 0, and their mirror images."""
        base = self.pair.nodes(max(2, count // 2), tail)
        above = base[base > 0]
        return np.concatenate([-above[::-1], [0.0], above])

    def cells(self, nodes: Array) -> Cells:
        """Cells of either sign from the pair; the rest into the cell of loss 0."""
        split = int(np.searchsorted(nodes, 0.0, side="left"))  # the cell that holds 0
        above = self.pair.cells(np.concatenate([[0.0], nodes[split:][nodes[split:] > 0]]))
        # An atom at a mirrored node belongs below that node: ask just under it.
        mirrored = -nodes[:split][::-1] * (1 - 4 * ULP)
        below = self.pair.cells(np.concatenate([[0.0], mirrored]))
        p, r = _joined(above.p, below.r, len(nodes)), _joined(above.r, below.p, len(nodes))
        p_error = _joined(above.p_error, below.r_error, len(nodes))
        r_error = _joined(above.r_error, below.p_error, len(nodes))
        error = float(above.p_error[1:].sum() + above.r_error[1:].sum()) + 8 * ULP
        rest = 1 - float(above.p[1:].sum() + above.r[1:].sum())
        _require_rest(rest, error)
        for mass, bound in ((p, p_error), (r, r_error)):
            mass[split] += max(rest, 0.0)
            bound[split] += error
        return Cells(p, r, p_error, r_error, max(above.shift, below.shift) + 8 * ULP)


def _joined(above: Array, below: Array, nodes: int) -> Array:
    """Cells beyond 0 on one side, and on the other as in a mirror; both lists start below 0."""
    joined = np.zeros(nodes + 1)
    joined[nodes + 2 - len(above) :] += above[1:]
    joined[: len(below) - 1] += below[1:][::-1]
    return joined


def _require_rest(rest: float, error: float) -> None:
    require(
        rest >= -error,
        "accounting",
        "a sampling rate at which the bound for both orders is proven",
        f"probability {rest} left at loss 0",
        "sample fewer records, or add more noise",
    )


def _log_mix(loss: Array, rate: float) -> Array:
    """``log(1 - q + q exp(loss))``, also at infinite losses."""
    capped = np.minimum(loss, 30.0)
    more = rate * np.expm1(capped)
    # A rate near 1 leaves little of 1 + more: there 1 - q is exact, and only positive terms add up.
    sums = np.log((1 - rate) + rate * np.exp(capped))
    near = np.where(more < -0.5, sums, np.log1p(more))
    far = np.logaddexp(math.log1p(-rate), math.log(rate) + loss)
    return np.where(loss < 30.0, near, far)


def _unmix(mixed: Array, rate: float) -> Array:
    """The loss whose `_log_mix` is given; minus infinity where there is none."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        near = np.log1p(np.maximum(np.expm1(np.minimum(mixed, 30.0)) / rate, -1.0))
        far = mixed - math.log(rate) + np.log1p(-(1 - rate) * np.exp(-mixed))
    return np.where(mixed < 30.0, near, far)
