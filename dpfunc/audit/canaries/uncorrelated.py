"""What a run with correlated noise released along its canaries, made into independent noise."""

from typing import Any

import numpy as np
import scipy

from dpfunc.audit.statistics.scores import Array
from dpfunc.checks import is_count, plain, require
from dpfunc.strategies.records import Toeplitz


def uncorrelated(projections: Any, strategy: Toeplitz, *, group: Any, cycle: int) -> Array:
    """Of ``[steps, m]`` released under `CorrelatedNoise` the canaries' own rounds, ``[rounds, m]``.

    ``projections``: what was released along each canary of kind ``"own"`` in units of the bound, as
    for `audit_release`. ``group``: int ``[m]``, that of each canary in `CyclicPoisson`
    (``sampler.group_of(key)``): canary i can be in the steps ``group[i], group[i] + cycle, ...``.

    Row k says of each canary ``b + sigma z``: b is 1 where it was in the sample of its k-th such
    step, z are independent standard normals, sigma is the noise multiplier. Pass the rows to
    `audit_release` with ``Poisson(sampler.rate, Gaussian(sigma)) * len(rows)``.

    Derivation: with C the strategy's matrix the release is ``y = S + C^-1 Z``, so that ``C y = C S
    + Z``. A canary's S is 1 in its steps t; columns of C that are ``cycle >= bands`` apart share no
    row. So ``<c_t, C y> / |c_t|**2 = b_t + <c_t, Z> / |c_t|**2``. Z has the deviation ``sigma
    |c_t|``, and projections of it on orthogonal columns are independent. Columns that are cut off
    at the end of the run are shorter; rounds with one are left out, for all canaries alike.

    ValueError for a strategy that has more bands than ``cycle``, or more steps than it has.

    >>> import dpfunc as dp
    >>> strategy = Toeplitz(5, (1.0, 0.5))
    >>> uncorrelated([[1.0], [0.0], [0.0], [0.0], [0.0]], strategy, group=[0], cycle=2).tolist()
    [[1.0], [0.0]]
    """
    values, numbers, cycle = (
        np.asarray(projections, dtype=np.float64),
        np.asarray(group),
        plain(cycle),
    )
    bands = strategy.bands if isinstance(strategy, Toeplitz) else None
    require(
        bands is not None and is_count(cycle) and cycle >= bands,
        "uncorrelated",
        "a banded strategy, of at most as many bands as the cycle has steps",
        f"{'no banded one' if bands is None else f'{bands} bands'}, cycle {cycle}",
        "audit runs of CyclicPoisson and dpfunc.correlated.banded",
    )
    require(
        values.ndim == 2 and len(values) <= strategy.steps and bool(np.isfinite(values).all()),
        "uncorrelated",
        f"projections [steps, canaries] of at most {strategy.steps} steps, finite",
        f"shape {values.shape}",
        "stack what was released along the canaries, one row a step",
    )
    require(
        numbers.shape == values.shape[1:]
        and numbers.dtype.kind in "iu"
        and bool(((numbers >= 0) & (numbers < cycle)).all()),
        "uncorrelated",
        f"for each of {values.shape[1]} canaries a group from 0 to {cycle - 1}",
        f"{numbers.dtype} {numbers.shape}",
        "pass sampler.group_of(key) of the canaries",
    )
    rounds = (len(values) - strategy.bands + 1) // cycle
    require(
        rounds >= 1,
        "uncorrelated",
        f"at least {cycle + strategy.bands - 1} steps",
        len(values),
        "audit a longer run",
    )
    column = np.array(strategy.coefficients)
    mixed = scipy.signal.lfilter(column, [1.0], values, axis=0)  # C y
    seen = scipy.signal.lfilter(column[::-1], [1.0], mixed, axis=0)[strategy.bands - 1 :]
    steps = numbers + cycle * np.arange(rounds)[:, None]
    found: Array = np.take_along_axis(seen, steps, axis=0) / float(column @ column)
    return found
