"""One run, a fair coin for each canary: a test of how many guesses are right, along the way.

Canaries are put in an order by their scores alone, most certain first, and their coins are revealed
in that order. Under (epsilon, 0)-DP every guess is right with probability at most ``q = e**eps /
(1 + e**eps)`` whatever was revealed before (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846). So
the whole path of right guesses is dominated by a random walk with steps Bernoulli(q), and any
increasing function of the path may be the statistic: here the least binomial tail over a fixed grid
of numbers of guesses, whose own law is computed exactly. So the data choose how many guesses to
make, and the choice is paid for.

Two families of guesses, the better of the two counted twice: "in" for the top half alone, and top
and bottom in turn, "in" and "out". Both are read off one revealing (top, bottom, top, ...), so that
with delta > 0 one set of free guesses serves both, none of which is free with probability at least
``1 - m delta``: docs/audit.md has the proof. So ``p = 2 min beta + m delta``.

Ties: any order of equal scores that does not look at the coins would do. Taken is the worst of
them, wrong guesses first, whose path lies below that of every other.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import betainc

from dpfunc.audit.statistics.scores import Scores

_FIRST, _RATIO = 4, 1.4
_STEP = 0.01  # between the epsilons that are asked about
_UP = 1 + 1e-9


class Paths(NamedTuple):
    """Right guesses so far: "in" for the top half; in turn "in" at the top, "out" at the bottom."""

    top: tuple[int, ...]
    turns: tuple[int, ...]


def paths(scores: Scores) -> Paths:
    """Both paths; entry k - 1 counts the right ones of the first k guesses."""
    values = np.concatenate([scores.outside, scores.inside])
    is_in = np.arange(len(values)) >= len(scores.outside)
    half = (len(values) + 1) // 2
    from_top = is_in[np.lexsort((is_in, -values))][:half]  # of equal scores those that were out
    from_bottom = ~is_in[np.lexsort((~is_in, values))][: len(values) - half]
    turns = np.empty(len(values), bool)
    turns[::2], turns[1::2] = from_top, from_bottom
    return Paths(tuple(np.cumsum(from_top).tolist()), tuple(np.cumsum(turns).tolist()))


def path_p(found: Paths, epsilon: float, delta: float) -> float:
    """The p-value of (epsilon, delta)-DP."""
    betas = [_beta(_on_grid(path), epsilon) for path in found]
    return min(1.0, 2 * min(betas) * _UP + len(found.turns) * delta)


def fixed_p(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The p-value for a number of guesses fixed before the run: theorem 5.2 of the paper.

    ``beta + 2 m delta max_i (P[Bin(r, q) >= v - i] - beta) / i``; 1 where that is above 1/2. There
    it may be below the truth: who keeps off the one outcome "all wrong" of three guesses, at
    epsilon 0, has a right one with probability ``7/8 + 7/8 delta``, and not ``7/8 + 6/8 delta``.
    """
    q = _chance(epsilon)
    beta = float(tail(guesses, np.array([right]), q)[0])
    if delta == 0 or right == 0:
        return min(1.0, beta * _UP)
    freed = np.arange(1, right + 1)
    gain = float(((tail(guesses, right - freed, q) - beta) / freed).max())
    return _at_most_half((beta + 2 * canaries * delta * max(0.0, gain)) * _UP)


def _at_most_half(p: float) -> float:
    return p if p <= 0.5 else 1.0


def largest_refuted(p_at: Callable[[float], float], alpha: float, *, step: float = _STEP) -> float:
    """The last epsilon of the grid before the first that is not refuted; 0 where the first is not.

    p does not always grow with epsilon, so that bisection might stop above the truth. This does
    with probability alpha at most: the claim at the first point above the truth is true.
    """
    count = 0
    while p_at(count * step) <= alpha:
        count += 1
    return max(0, count - 1) * step


def is_refuted(found: Paths, epsilon: float, delta: float, alpha: float) -> bool:
    """``path_p(...) <= alpha``, without convolutions where the least tail decides it."""
    room = (alpha - len(found.turns) * delta) / (2 * _UP)
    undecided = []
    for path in found:
        grid = _on_grid(path)
        level = _level(grid, _chance(epsilon))
        if level * len(grid) <= room:  # a union bound over the grid
            return True
        if level <= room:
            undecided.append(grid)
    return any(_beta(grid, epsilon) <= room for grid in undecided)


def crossing(steps: Sequence[int], thresholds: Sequence[int], q: float) -> float:
    """``P[W at some of the steps is at least its threshold]``, W a walk of Bernoulli(q) steps."""
    alive, before, crossed = np.ones(1), 0, 0.0
    for step, threshold in zip(steps, thresholds, strict=True):
        law = scipy.stats.binom.pmf(np.arange(step - before + 1), step - before, q)
        alive = np.convolve(alive, law)
        crossed += float(alive[threshold:].sum())
        alive, before = alive[:threshold], step
    return crossed


def tail(count: int, least: NDArray[np.intp], q: float) -> NDArray[np.float64]:
    """``P[Bin(count, q) >= least]``."""
    inner = np.clip(least, 1, count)
    value = betainc(inner, count - inner + 1, q)
    return np.where(least <= 0, 1.0, np.where(least > count, 0.0, value))


def _beta(grid: tuple[tuple[int, int], ...], epsilon: float) -> float:
    """How often a walk is, at some point of the grid, as far out as this path at its farthest."""
    q = _chance(epsilon)
    level = _level(grid, q)
    steps = [k for k, _ in grid]
    return crossing(steps, [_threshold(k, level, q) for k in steps], q)


def _level(grid: tuple[tuple[int, int], ...], q: float) -> float:
    return min(float(tail(k, np.array([right]), q)[0]) for k, right in grid)


def _threshold(count: int, level: float, q: float) -> int:
    """The least a with a tail of at most ``level``."""
    near = int(scipy.stats.binom.isf(min(level, 1.0), count, q))
    around = np.arange(max(0, near - 3), min(count, near + 4) + 2)
    return int(around[int(np.argmax(tail(count, around, q) <= level))])


@lru_cache(maxsize=16)
def _on_grid(path: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Numbers of guesses, fixed beforehand, and how many of them were right."""
    return tuple((k, path[k - 1]) for k in _grid(len(path)))


def _grid(most: int) -> list[int]:
    """4, 6, 8, 11, ..., each 1.4 times the last, and the most."""
    count = max(0, math.ceil(math.log(max(most, 1) / _FIRST, _RATIO))) + 1
    return sorted(
        {k for k in (round(_FIRST * _RATIO**j) for j in range(count)) if k < most} | {most}
    )


def _chance(epsilon: float) -> float:
    return 1 / (1 + math.exp(-epsilon))
