"""Attacks: for each record a number, larger where it looks more as if the target had seen it.

Each is a function of ``signals``, ``member`` and ``target``. ``signals`` are `loss_scores` of many
models, ``[models, records]``; ``member``, bool ``[models, records]``, says who was in the data of
which model. ``target`` is the number of a row, which is then left out of the shadows, or the
signals ``[records]`` of another model. Out come scores ``[records]``, float64. Who was in the
target's own data is never looked at. Where every record is in exactly half of the models, as in
`shadow_models`, the numbers of shadows in and out would tell it: one of the larger side is left
out.

No attack is best everywhere. Report all of a list that you fixed beforehand, or the best of it with
``tests=`` in `roc`. `loss` alone misses what the others see.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

from dpfunc.checks import is_count, is_real, plain, require

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_OWN_VARIANCES = 64  # shadow models, from which on each record has variances of its own
_LEAST_VARIANCE = 1e-12


class _Parts(NamedTuple):
    """Signals of the target ``[records]`` and of its shadows ``[models, records]``; for each record
    the shadows with it, and those without it."""

    target: Array
    shadows: Array
    is_in: Bools
    is_out: Bools


def loss(signals: Any, member: Any, target: Any) -> Array:
    """``log p(y|x)`` of the target: shadows are not needed (Yeom et al. 2018, arXiv:1709.01604).

    It takes records that are easy for members. On its own it misses nearly all that the other
    attacks find; never report it alone.

    >>> loss([[0.0, 3.0], [1.0, 1.0]], [[True, False], [False, True]], 0).round(2).tolist()
    [-0.69, -0.05]
    """
    parts = _parts("attacks.loss", signals, member, target, least_in=0, least_out=0)
    scores: Array = log_expit(parts.target)
    return scores


def calibrated(signals: Any, member: Any, target: Any) -> Array:
    """The target's signal minus its mean over shadows without the record: how much easier it got.

    Watson et al. 2022 (arXiv:2111.08440). Needs models without the record alone.

    >>> shadows = [[0.0, 3.0], [1.0, 1.0], [0.5, 2.0]]
    >>> calibrated(shadows, [[True, False], [False, True], [False, False]], 0).tolist()
    [-0.75, 1.0]
    """
    parts = _parts("attacks.calibrated", signals, member, target, least_in=0, least_out=1)
    return parts.target - _mean(parts.shadows, parts.is_out)


def lira(
    signals: Any,
    member: Any,
    target: Any,
    *,
    online: bool = True,
    one_variance: bool | None = None,
) -> Array:
    """The likelihood ratio attack of Carlini et al. 2022 (arXiv:2112.03570).

    Online: ``log N(s; mean_in, sd_in) - log N(s; mean_out, sd_out)``, normal laws fitted to the
    record's signals in the shadows with and without it. Offline: ``(s - mean_out) / sd_out``, of
    the shadows without it alone. ``one_variance``: one variance "in" and one "out" for all records,
    each about the records' own means, as is better for few shadows; by default below 64.

    | case | result |
    |---|---|
    | a record in, or out of, fewer than two shadows (offline: out of) | ValueError |
    | a shadow whose signals are the target's own: it is among its shadows | ValueError |
    """
    least_in = 2 if online else 0
    parts = _parts("attacks.lira", signals, member, target, least_in=least_in, least_out=2)
    pooled = len(parts.shadows) < _OWN_VARIANCES if one_variance is None else one_variance
    out_mean, out_variance = _fit(parts.shadows, parts.is_out, pooled)
    out = (parts.target - out_mean) / np.sqrt(out_variance)
    if not online:
        return out
    in_mean, in_variance = _fit(parts.shadows, parts.is_in, pooled)
    inside = (parts.target - in_mean) / np.sqrt(in_variance)
    return 0.5 * (out**2 - inside**2 + np.log(out_variance) - np.log(in_variance))


def rmia(
    signals: Any,
    member: Any,
    target: Any,
    *,
    gamma: float = 1.0,
    population: Any = None,
    online: bool = True,
) -> Array:
    """The robust attack of Zarifzadeh et al. 2024 (arXiv:2312.03262): few shadows are enough.

    The share of records z of a population for which ``(p(x|target) / p(x)) / (p(z|target) / p(z))
    >= gamma``, p the probability of the label. ``p(x)``: the mean over shadows, half with and half
    without the record; with ``online=False`` those without it alone. ``population``: bool
    ``[records]``, which records are z; all by default. With one population for all records the
    order is that of the ratio itself; the share makes scores of several targets comparable.
    """
    subject = "attacks.rmia"
    least_in = 1 if online else 0
    parts = _parts(subject, signals, member, target, least_in=least_in, least_out=1)
    gamma = plain(gamma)
    require(is_real(gamma) and gamma > 0, subject, "a gamma > 0", gamma, "use 1 to 2")
    size = len(parts.target)
    is_z = np.ones(size, dtype=bool) if population is None else np.asarray(population)
    require(
        is_z.dtype == np.bool_ and is_z.shape == (size,) and bool(is_z.any()),
        subject,
        f"a population of bool [{size}], not empty",
        f"{is_z.dtype} {is_z.shape}",
        "say which records may serve for comparison",
    )
    mean = _log_mean(parts.shadows, parts.is_out)
    if online:
        mean = np.logaddexp(mean, _log_mean(parts.shadows, parts.is_in)) - np.log(2)
    ratio = log_expit(parts.target) - mean
    others = np.sort(ratio[is_z])
    share: Array = np.searchsorted(others, ratio - np.log(gamma), "right") / len(others)
    return share


def _parts(
    subject: str, signals: Any, member: Any, target: Any, *, least_in: int, least_out: int
) -> _Parts:
    values, is_in = np.asarray(signals, dtype=np.float64), np.asarray(member)
    require(
        values.ndim == 2 and is_in.dtype == np.bool_ and is_in.shape == values.shape,
        subject,
        "signals [models, records] and as many booleans in member",
        f"{values.shape} and {is_in.dtype} {is_in.shape}",
        "pass a row for each model",
    )
    require(
        bool(np.isfinite(values).all()),
        subject,
        "finite signals",
        f"{int((~np.isfinite(values)).sum())} that are not",
        "make them with audit.loss_scores, in float64",
    )
    number = plain(target)
    if is_count(number) and number < len(values):
        own = values[number]
        values, is_in = np.delete(values, number, 0), np.delete(is_in, number, 0)
    else:
        own = np.asarray(target, dtype=np.float64)
        require(
            own.shape == values.shape[1:] and bool(np.isfinite(own).all()),
            subject,
            f"a target: the number of a row below {len(values)}, or {values.shape[1]} signals",
            number if own.ndim == 0 else own.shape,
            "leave out the target's own membership",
        )
    same = (values == own).all(1).nonzero()[0]
    require(
        len(same) == 0,
        subject,
        "a target that is not among its shadows",
        f"a shadow of the same signals, number {same[:1].tolist()}",
        "pass the number of its row as target, and each model once",
    )
    is_in, is_out = _as_many(is_in)
    for name, there, least in (("in", is_in, least_in), ("out of", is_out, least_out)):
        fewest = int(there.sum(0).min()) if there.size else 0
        require(
            fewest >= least,
            subject,
            f"every record {name} the data of at least {least} shadows",
            fewest,
            "train more shadow models",
        )
    return _Parts(own, values, is_in, is_out)


def _as_many(is_in: Bools) -> tuple[Bools, Bools]:
    """The shadows with each record and those without it, none that tells of the target.

    Where every record is in exactly half of the models, one side of the others is short of one: of
    the target. So a mean over fewer would know whether it was in. Then the first of the larger side
    is left out.
    """
    more = 2 * is_in.sum(0) - len(is_in)
    if len(is_in) < 3 or not (abs(more) == 1).all():
        return is_in, ~is_in
    larger = is_in == (more > 0)
    first = np.arange(len(is_in))[:, None] == larger.argmax(0)
    return is_in & ~first, ~is_in & ~first


def _mean(values: Array, there: Bools) -> Array:
    mean: Array = (values * there).sum(0) / there.sum(0)
    return mean


def _log_mean(values: Array, there: Bools) -> Array:
    """The logarithm of the mean probability."""
    logs = np.where(there, log_expit(values), -np.inf)
    mean: Array = np.logaddexp.reduce(logs, axis=0) - np.log(there.sum(0))
    return mean


def _fit(values: Array, there: Bools, pooled: bool) -> tuple[Array, Array]:
    """Means ``[records]`` and variances, one for all records if ``pooled``."""
    mean = _mean(values, there)
    squares = ((values - mean) ** 2 * there).sum(0)
    freedom = there.sum(0) - 1
    variance = np.full(len(mean), squares.sum() / freedom.sum()) if pooled else squares / freedom
    return mean, np.maximum(variance, _LEAST_VARIANCE)
