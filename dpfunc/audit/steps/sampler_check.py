"""`check_sampler`: which sampling scheme do these batches come from, and is it the promised one?"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import scipy
from numpy.typing import NDArray

from dpfunc.audit.steps.report import Finding, Report
from dpfunc.checks import is_count, is_real, plain, require

_ALPHA = 1e-4
_TESTS = 5


def check_sampler(
    draw: Callable[[int], Iterable[int]], *, size: int, rate: float, steps: int = 400
) -> Report:
    """Look at batches: ``draw(step)`` lists the records, of ``size``, that take part in a step.

    Against Poisson sampling at ``rate``: the number of all records drawn is binomial, batch sizes
    have variance ``size rate (1 - rate)``, records are drawn equally often, with binomial spread,
    no record twice in a batch, and whether a record was in the last batch tells nothing about the
    next. The notes say which scheme fits and what the accountant calls it. A Poisson sampler is
    accused in one of 10,000 checks.

    >>> import dpfunc as dp
    >>> key = dp.key(0)
    >>> report = check_sampler(
    ...     lambda step: dp.sampling.poisson(key, step, size=200, rate=0.1)[0].tolist(),
    ...     size=200, rate=0.1)
    >>> bool(report), report.notes
    (True, ('looks like Poisson sampling: accounting.Poisson(0.1, ...)',))
    """
    size, rate, steps = plain(size), plain(rate), plain(steps)
    require(
        is_count(size) and size >= 2, "check_sampler", "an int size >= 2", size, "pass len(data)"
    )
    require(
        is_real(rate) and 0 < rate < 1, "check_sampler", "a rate in (0, 1)", rate, "pass the rate"
    )
    require(
        is_count(steps) and steps * min(rate, 1 - rate) >= 10,
        "check_sampler",
        "steps enough for ten draws of each record",
        steps,
        f"use {math.ceil(10 / min(rate, 1 - rate))}",
    )
    drawn = np.zeros((steps, size), dtype=np.int64)
    for step in range(steps):
        places = np.fromiter((int(i) for i in draw(step)), dtype=np.int64)
        outside = len(places) > 0 and (places.min() < 0 or places.max() >= size)
        require(not outside, "check_sampler", f"records below {size}", places, "pass indices")
        np.add.at(drawn[step], places, 1)
    found = _against_poisson(drawn, rate)
    note = _scheme(drawn, rate, not found)
    return Report("check_sampler", tuple(found), _TESTS, math.nan, (note,))


def _against_poisson(drawn: NDArray[np.int64], rate: float) -> list[Finding]:
    steps, size = drawn.shape
    alpha = _ALPHA / _TESTS
    found = []
    total = int(drawn.sum())
    if scipy.stats.binomtest(total, total + max(0, steps * size - total), rate).pvalue < alpha:
        found.append(_wrong("all batches", f"rate {total / (steps * size):.4g} for {rate:.4g}"))
    sizes = drawn.sum(1)
    expected = size * rate * (1 - rate)
    if not _is_chi_square(float(((sizes - size * rate) ** 2).sum() / expected), steps, alpha):
        what = f"variance {sizes.var():.4g} of batch sizes for {expected:.4g}"
        found.append(_wrong("batch sizes", what))
    counts = drawn.sum(0)
    spread = float(((counts - steps * rate) ** 2).sum() / (steps * rate * (1 - rate)))
    if not _is_chi_square(spread, size, alpha):
        what = (
            f"variance {counts.var():.4g} of a record's draws for {steps * rate * (1 - rate):.4g}"
        )
        found.append(_wrong("records", what))
    if (drawn > 1).any():
        found.append(_wrong("batches", "a record is in a batch twice"))
    taken = np.minimum(drawn, 1) - rate
    lag = float((taken[1:] * taken[:-1]).sum()) / (
        rate * (1 - rate) * math.sqrt((steps - 1) * size)
    )
    if abs(lag) > -scipy.stats.norm.ppf(alpha / 2):
        found.append(_wrong("batches in a row", f"they depend on each other: z = {lag:.3g}"))
    return found


def _scheme(drawn: NDArray[np.int64], rate: float, is_poisson: bool) -> str:
    steps, size = drawn.shape
    if is_poisson:
        return f"looks like Poisson sampling: accounting.Poisson({rate:g}, ...)"
    sizes = drawn.sum(1)
    batch = int(sizes[0])
    if (sizes != batch).any():
        return "looks like no scheme that is known here: sizes vary, and not as Poisson samples do"
    if (drawn > 1).any():
        return (
            f"looks like draws with replacement: accounting.WithReplacement({batch}, {size}, ...)"
        )
    epoch = max(1, size // max(batch, 1))
    if epoch <= steps and (drawn[:epoch].sum(0) <= 1).all():
        return "looks like shuffled epochs: accounting.Shuffled(...), whose epsilon is larger"
    return (
        f"looks like batches of a fixed size: accounting.WithoutReplacement({batch}, {size}, ...)"
    )


def _is_chi_square(value: float, freedom: int, alpha: float) -> bool:
    low, high = scipy.stats.chi2.ppf(alpha / 2, freedom), scipy.stats.chi2.isf(alpha / 2, freedom)
    return bool(low * 0.97 <= value <= high * 1.03)  # binomials are nearly normal, not quite


def _wrong(where: str, what: str) -> Finding:
    return Finding("wrong sample", where, what)
