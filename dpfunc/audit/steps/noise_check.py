"""`check_noise`: is what a step releases without data the noise that the accountant assumes?"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import scipy
from torch import Tensor

from dpfunc.audit.steps.report import Finding, Report
from dpfunc.checks import is_count, is_real, plain, require

_ALPHA = 1e-4  # of all tests together: how often good noise is accused
_FEW = 8  # numbers: a correlation of fewer tells nothing
_LARGER = 1.01  # noise larger than promised by less than this, in variance, is no fault
_MOST = 20_000  # numbers in a test of the shape: a lattice of a hundredth of sigma is no fault


def check_noise(
    release: Callable[[int], dict[str, Tensor]],
    *,
    bound: float,
    noise_multiplier: float,
    steps: int = 20,
) -> Report:
    """Look at the noise alone: ``release(step)``, the released sum, not divided, of no data.

    Per parameter and over all ``steps``: the variance is ``(noise_multiplier * bound)**2`` (chi
    square, and at most 1 % more), the shape is normal (Kolmogorov and Smirnov), no two steps and no
    two parameters of a step have correlated noise (which a repeated one is). Good noise is accused
    in one of 10,000 checks. N numbers show an error of sigma of about ``4 / sqrt(2 N)``.

    For a parameter of fewer than 8 numbers all steps together are looked at.

    >>> import torch, dpfunc as dp
    >>> def release(step):
    ...     noise = dp.normal(dp.fold_in(dp.key(0), step), (1000,))
    ...     return {"w": 0.9 * noise}
    >>> print(check_noise(release, bound=1.0, noise_multiplier=1.0).findings[0].what)
    variance 0.817 of what is promised
    """
    bound, noise_multiplier, steps = plain(bound), plain(noise_multiplier), plain(steps)
    sigma = bound * noise_multiplier if is_real(bound) and is_real(noise_multiplier) else math.nan
    require(
        0 < sigma < math.inf,
        "check_noise",
        "a bound and a noise_multiplier > 0",
        (bound, noise_multiplier),
        "pass those of the run",
    )
    require(is_count(steps) and steps >= 2, "check_noise", "an int steps >= 2", steps, "use 20")
    rows = [
        {n: v.detach().double().cpu().numpy().ravel() / sigma for n, v in release(step).items()}
        for step in range(steps)
    ]
    names = sorted(rows[0])
    pairs = len(names) * steps * (steps - 1) // 2 + steps * len(names) * (len(names) - 1) // 2
    alpha = _ALPHA / (3 * len(names) + pairs)
    findings: list[Finding] = []
    for name in names:
        values = np.concatenate([row[name] for row in rows])
        findings += _shape_of(name, values, alpha)
        findings += _repeats(f"{name}, steps", [row[name] for row in rows], alpha)
    for step, row in enumerate(rows):
        label = f"step {step}, parameters"
        findings += _repeats(label, [row[name] for name in names], alpha)
    return Report("check_noise", tuple(findings), 3 * len(names) + pairs, math.nan)


def _shape_of(name: str, values: np.ndarray, alpha: float) -> list[Finding]:
    if not np.isfinite(values).all():
        return [Finding("not finite", name, "noise that is not finite")]
    total, count = float(np.square(values).sum()), len(values)
    low, high = scipy.stats.chi2.ppf(alpha, count), scipy.stats.chi2.isf(alpha, count)
    found = []
    if not low <= total <= high * _LARGER:
        ratio = total / count
        what = f"variance {ratio:.3g} of what is promised"
        found.append(Finding("wrong noise", name, what, ratio))
    some = values[:_MOST] / math.sqrt(max(total / count, 1e-300))
    if scipy.stats.kstest(some, "norm").pvalue < alpha:
        found.append(Finding("wrong noise", name, "its shape is not normal"))
    return found


def _repeats(label: str, rows: Sequence[np.ndarray], alpha: float) -> list[Finding]:
    """Pairs of rows that are correlated; rows too short to tell are left out."""
    found = []
    limit = -scipy.stats.norm.ppf(alpha / 2)
    for i, j in combinations(range(len(rows)), 2):
        size = min(len(rows[i]), len(rows[j]))
        a, b = rows[i][:size], rows[j][:size]
        if size < _FEW or not (np.isfinite(a).all() and np.isfinite(b).all()):
            continue
        scale = math.sqrt(float(a @ a) * float(b @ b))
        correlation = float(a @ b) / scale if scale > 0 else 0.0
        # Fisher's transform: nearly normal with variance 1 / (size - 3), from 8 numbers on.
        if abs(math.atanh(np.clip(correlation, -1 + 1e-15, 1 - 1e-15))) * math.sqrt(size - 3) > (
            limit * 1.2
        ):
            what = f"noise of {i} and {j} is correlated, {correlation:.3g}"
            found.append(Finding("wrong noise", label, what, correlation))
    return found
