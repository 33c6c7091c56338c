"""Counts, totals, histograms and means as a `Summed`: noise, lattice, state and ledger of training.

    noisy, state = noise.add(queries.histogram(ages // 10, bins=12), state)

Every function clamps or clips each record by itself, leaves out (with weight zero) what is NaN, and
adds up in float64. ``bound`` is the most that one record which comes or goes moves the sum in the
L2 norm; ranges and numbers of bins are public and must not be read off the data. A record is an
entry of axis 0: who has several rows must be grouped first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.types import Summed, Tensors


def count(mask: Tensor) -> Summed:
    """How many of ``mask``, bool ``[n]``, are True: ``{"count": []}``, bound 1.

    >>> import torch
    >>> count(torch.tensor([True, False, True]))
    Summed(values={'count': tensor(2., dtype=torch.float64)}, bound=1.0)
    """
    require(
        isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim == 1,
        "queries.count",
        "a mask, bool [n]",
        _kind(mask),
        "compare the data with something: ages > 65",
        error=TypeError,
    )
    return Summed({"count": mask.double().sum()}, 1.0)


def total(
    x: Tensor, *, low: float | None = None, high: float | None = None, max_norm: float | None = None
) -> Summed:
    """The sum of numbers clamped to ``[low, high]``, or of rows clipped to ``max_norm``.

    ``x [n]`` with a range: ``{"total": []}``, bound ``max(|low|, |high|)``. ``x [n, d]`` with
    ``max_norm``: ``{"total": [d]}``, bound ``max_norm``: a row of a larger L2 norm is scaled down.

    >>> import torch
    >>> total(torch.tensor([1.0, 9.0, torch.nan]), low=0, high=5)
    Summed(values={'total': tensor(6., dtype=torch.float64)}, bound=5.0)
    """
    if max_norm is None:
        least, most = _range("queries.total", low, high)
        values = _numbers("queries.total", x, 1)
        clamped = torch.where(values.isnan(), 0.0, values.clamp(least, most))
        return Summed({"total": clamped.sum()}, max(abs(least), abs(most)))
    norm = plain(max_norm)
    require(
        low is None and high is None and is_real(norm) and 0 < norm < math.inf,
        "queries.total",
        "a finite max_norm > 0, or low and high",
        (low, high, max_norm),
        "use max_norm for rows, a range for numbers",
    )
    rows = _numbers("queries.total", x, 2)
    sizes = torch.linalg.vector_norm(rows, dim=1)
    weights = torch.where(sizes.isfinite(), (norm / sizes.clamp(min=1e-300)).clamp(max=1.0), 0.0)
    kept = torch.where(sizes.isfinite()[:, None], rows, 0.0)
    return Summed({"total": (kept * weights[:, None]).sum(0)}, float(norm))


def histogram(bin: Tensor, *, bins: int) -> Summed:
    """How many records are in each of ``bins``: ``{"histogram": [bins]}``, bound 1.

    ``bin``: whole numbers ``[n]``, one bin a record. One outside ``0 ... bins - 1`` is left out.

    >>> import torch
    >>> histogram(torch.tensor([0, 2, 2, 7]), bins=3).values["histogram"]
    tensor([1., 0., 2.], dtype=torch.float64)
    """
    bins = plain(bins)
    require(
        is_count(bins) and bins >= 1, "queries.histogram", "an int bins >= 1", bins, "pass a number"
    )
    whole = isinstance(bin, Tensor) and not (bin.is_floating_point() or bin.is_complex())
    require(
        whole and bin.ndim == 1 and bin.dtype != torch.bool,
        "queries.histogram",
        "one whole number for each record, [n]",
        _kind(bin),
        "pass ages // 10, or torch.bucketize(x, public_edges); a record has one bin",
        error=TypeError,
    )
    kept = bin[(bin >= 0) & (bin < bins)].long()
    return Summed({"histogram": torch.bincount(kept, minlength=bins).double()}, 1.0)


@dataclass(frozen=True)
class Mean:
    """What `mean` asks (``summed``), and how its noisy answer is read (`of`)."""

    summed: Summed
    low: float
    high: float

    def of(self, noisy: Tensors) -> float:
        """The mean, from the released ``summed``: post-processing, it costs nothing.

        The middle of the range where the noisy count is not positive.
        """
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        size, centred = float(noisy["count"]), float(noisy["centred"])
        if size <= 0:
            return middle
        return min(self.high, max(self.low, middle + half * centred / size))


def mean(x: Tensor, *, low: float, high: float) -> Mean:
    """The mean of numbers ``[n]`` clamped to ``[low, high]``: a sum and a count in one release.

    ``summed.values``: ``{"centred": sum clamp(x - middle, -half, half), "count": n half}`` with
    ``half = (high - low) / 2``, of bound ``sqrt(2) half``: a record moves each by ``half`` at most.
    Centred numbers have half the sensitivity, and a count in units of ``half`` has noise of the
    same weight. Its deviation is ``sigma sqrt(2) half / n sqrt(1 + ((mean - middle) / half)**2)``.

    >>> import torch, dpfunc as dp
    >>> ages = mean(torch.tensor([30.0, 50.0]), low=0, high=120)
    >>> noisy, _ = (noise := dp.GaussianNoise(0.0, key=dp.key())).add(ages.summed, noise.init({}))
    >>> ages.of(noisy)
    40.0
    """
    least, most = _range("queries.mean", low, high)
    require(least < most, "queries.mean", "low < high", (low, high), "pass a public range")
    values = _numbers("queries.mean", x, 1)
    middle, half = (least + most) / 2, (most - least) / 2
    is_there = ~values.isnan()
    centred = torch.where(is_there, (values - middle).clamp(-half, half), 0.0)
    summed = Summed(
        {"centred": centred.sum(), "count": is_there.double().sum() * half}, math.sqrt(2) * half
    )
    return Mean(summed, least, most)


def together(**queries: Summed) -> Summed:
    """Several queries of the same data as one release: names go in front, bounds add in squares.

    A query of a larger bound gets no more noise than the others: scale by hand what should be
    sharper.

    >>> import torch
    >>> both = together(a=count(torch.tensor([True])), b=count(torch.tensor([False])))
    >>> sorted(both.values), round(both.bound, 4)
    (['a.count', 'b.count'], 1.4142)
    """
    require(len(queries) > 0, "queries.together", "at least one query", 0, "name them: ages=...")
    for name, query in queries.items():
        require(
            isinstance(query, Summed),
            "queries.together",
            f"a Summed as {name}",
            type(query).__name__,
            "pass what queries.count and others return; of a mean, .summed",
            error=TypeError,
        )
    values = {f"{n}.{part}": v for n, query in queries.items() for part, v in query.values.items()}
    return Summed(values, math.hypot(*(query.bound for query in queries.values())))


def _range(subject: str, low: float | None, high: float | None) -> tuple[float, float]:
    least, most = plain(low), plain(high)
    require(
        is_real(least) and is_real(most) and -math.inf < least <= most < math.inf,
        subject,
        "finite low <= high",
        (low, high),
        "pass a public range: one read off the data is not private",
    )
    return float(least), float(most)


def _numbers(subject: str, x: Tensor, axes: int) -> Tensor:
    """In float64: clamping after centring in float32 could exceed the range."""
    require(
        isinstance(x, Tensor) and x.ndim == axes and not x.is_complex(),
        subject,
        f"a tensor of real numbers with {axes} axes, records on the first",
        _kind(x),
        "group the rows of one person first",
        error=TypeError,
    )
    return x.double()


def _kind(value: object) -> object:
    return (value.dtype, tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
