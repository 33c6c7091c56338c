"""`check_step`: does one record move the sum of any library's step by more than it may?"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.audit.steps.candidates import Batch, candidates, joined, record
from dpfunc.audit.steps.report import Finding, Report, Severity
from dpfunc.checks import is_real, plain, require

Sums = dict[str, Tensor]
Summed = Callable[[Batch], Sums]

_MOST_NORM = 1.8e19  # of a float32: its square is 3.4e38
_OFF = 0.01  # of the bound, by which what a record adds may differ from its clipped gradient


def check_step(
    summed: Summed,
    batch: Batch,
    *,
    bound: float,
    plain_grad: Callable[[Batch], Sums] | None = None,
    clip: Callable[[Sums], Sums] | None = None,
    tol: float = 1e-3,
    real: int = 4,
) -> Report:
    """Add records to batches and see what they do to the sum: of any library, noise off.

    ``summed(batch) -> {name: tensor}``: the clipped sum of a batch of any size, not divided,
    without noise, always from the same parameters. ``batch``: a tuple of tensors with samples on
    axis 0. ``bound``: how far one record may move all of it, in the L2 norm. For each of many
    records (``real`` ones of the batch, and versions of the first that are scaled, zero, constant,
    at the border, random, repeated, NaN, infinite), added to the batch, to one record and to none:

    - the sum moves by at most ``bound * (1 + tol)``, and stays finite: else a *violation*, or *not
      finite*;
    - there is an error with the record if and only if there is one without: else a *violation*;
    - with ``plain_grad(record) -> {name: tensor}``, its own gradient, the sum moves by that
      gradient, clipped to the bound, or as ``clip(gradient)`` says, within 1 % of the bound: else
      a *wrong gradient*;
    - one batch gives the same bits twice; no records give zero.

    Guarantee: none. What is found is wrong; what is not found may still be. Cf. Cebere et al. 2026
    (arXiv:2602.17454), who found 13 violations in 12 libraries in this way.

    | case | result |
    |---|---|
    | fewer than two records, or none with numbers | ValueError |
    | an error of ``summed`` on the batch itself | that error |

    >>> import torch, dpfunc as dp
    >>> private = dp.PrivateGrad(
    ...     lambda params, x: (params["w"] * x).sum() ** 2,
    ...     clip=dp.Clip(1.0), noise=dp.GaussianNoise(1.0, key=dp.key()), expected_batch_size=4,
    ... )
    >>> step = dp.audit.of_private_grad(private, {"w": torch.ones(3)}, (torch.eye(3),))
    >>> report = check_step(**step)
    >>> len(report.findings), report.worst <= 1.001
    (0, True)
    """
    bound, tol = plain(bound), plain(tol)
    _require("check_step", batch, bound, tol)
    check = _Check(summed, bound, tol, plain_grad, clip or _clipped_to(bound))
    check.same_twice(batch)
    check.empty(tuple(part[:0] for part in batch))
    found = candidates(batch, real=real)
    for name, start in (("the batch", batch), ("one record", record(batch, 1))):
        check.added(name, start, found)
        check.added(name, start, {"a repeated record": record(start, 0)})
    check.added("no records", tuple(part[:0] for part in batch), found)
    return Report("check_step", tuple(check.findings), check.checks, check.worst)


@dataclass
class _Check:
    """The comparisons, and what they found so far."""

    summed: Summed
    bound: float
    tol: float
    plain_grad: Callable[[Batch], Sums] | None
    clip: Callable[[Sums], Sums]

    def __post_init__(self) -> None:
        self.findings: list[Finding] = []
        self.checks = 0
        self.worst = 0.0

    def find(self, severity: Severity, where: str, what: str, size: float = 0.0) -> None:
        self.findings.append(Finding(severity, where, what, size))

    def same_twice(self, batch: Batch) -> None:
        self.checks += 1
        first, second = self.summed(batch), self.summed(batch)
        if any(not torch.equal(first[name], second[name]) for name in first):
            self.find("not deterministic", "the batch", "two sums of one batch differ")

    def empty(self, nothing: Batch) -> None:
        self.checks += 1
        sums = _attempt(self.summed, nothing)
        if isinstance(sums, Exception):
            self.find("violation", "no records", f"{_name(sums)}: that a batch is empty shows")
        elif any(bool((value != 0).any()) for value in sums.values()):
            self.find("violation", "no records", "a sum of nothing is not zero")

    def added(self, context: str, start: Batch, found: dict[str, Batch]) -> None:
        before = _attempt(self.summed, start)
        if isinstance(before, Exception):
            if len(start[0]) > 0:  # that none is an error is found already
                self.find("violation", context, f"{_name(before)} without any record added")
            return
        for name, one in found.items():
            self.checks += 1
            where = f"{name}, to {context}"
            after = _attempt(self.summed, joined(start, one))
            if isinstance(after, Exception):
                self.find("violation", where, f"{_name(after)} with it and none without")
            elif _shapes(before) != _shapes(after):
                self.find("violation", where, "the sum has other names or shapes with it")
            else:
                self.moved(where, one, before, after)

    def moved(self, where: str, one: Batch, before: Sums, after: Sums) -> None:
        difference = {name: after[name].double() - before[name].double() for name in before}
        size = _norm(difference.values())
        if not math.isfinite(size):
            self.find("not finite", where, "the sum is not finite with it, and is without", size)
            return
        self.worst = max(self.worst, size / self.bound)
        if size > self.bound * (1 + self.tol):
            ratio = size / self.bound
            self.find("violation", where, f"moves the sum by {ratio:.4g} bounds", ratio)
        if self.plain_grad is None:
            return
        own = _attempt(self.plain_grad, one)
        if isinstance(own, Exception) or not math.isfinite(_norm(own.values())):
            return  # it has no gradient to compare with
        if size <= _OFF * self.bound and _norm(own.values()) > _MOST_NORM:
            return  # left out because its norm is not finite in float32
        wanted = self.clip(own)
        off = _norm(difference[name] - wanted[name].double() for name in difference) / self.bound
        if off > _OFF:
            what = f"adds something else than its clipped gradient: {off:.2g} bounds off"
            self.find("wrong gradient", where, what, off)


def _require(subject: str, batch: Batch, bound: float, tol: float) -> None:
    tensors = isinstance(batch, tuple) and all(isinstance(part, Tensor) for part in batch)
    require(
        tensors and len(batch) > 0,
        subject,
        "a batch that is a tuple of tensors",
        type(batch).__name__,
        "pass (x, y), samples on axis 0 of each",
    )
    sizes = {len(part) for part in batch}
    require(
        len(sizes) == 1 and min(sizes) >= 2,
        subject,
        "at least two records, as many in each tensor",
        sorted(sizes),
        "pass a small real batch",
    )
    require(
        is_real(bound) and 0 < bound < math.inf,
        subject,
        "a finite bound > 0",
        bound,
        "pass the clipping norm: how far one record may move the sum",
    )
    require(is_real(tol) and 0 <= tol < 1, subject, "a tol in [0, 1)", tol, "use 1e-3")


def _clipped_to(bound: float) -> Callable[[Sums], Sums]:
    def clip(own: Sums) -> Sums:
        weight = min(1.0, bound / max(_norm(own.values()), 1e-300))
        return {name: value.double() * weight for name, value in own.items()}

    return clip


def _attempt(function: Callable[[Batch], Sums], batch: Batch) -> Sums | Exception:
    """The sums, or the error: here an error is what is looked for."""
    try:
        return {name: value.detach().clone() for name, value in function(batch).items()}
    except Exception as error:  # of any library
        return error


def _name(error: Exception) -> str:
    return type(error).__name__


def _shapes(sums: Sums) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in sums.items()}


def _norm(values: Iterable[Tensor]) -> float:
    return math.sqrt(math.fsum(float(value.double().square().sum()) for value in values))
