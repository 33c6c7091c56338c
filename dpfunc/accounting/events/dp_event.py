"""Events to and from ``dp_accounting.DpEvent``, the descriptions of Google's accounting library.

Reading goes by class and attribute names alone, so it needs neither that package nor its version,
and takes its NamedTuple form as well. Writing imports ``dp_accounting``.
"""

from dataclasses import fields
from typing import Any

from dpfunc.accounting.events.algebra import Compose, Event, Repeat, require_event
from dpfunc.accounting.events.mechanisms import (
    ZCDP,
    ApproxDP,
    DiscreteLaplace,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    RandomizedResponse,
)
from dpfunc.accounting.events.schemes import (
    Poisson,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.events.selection import PrivateSelection

# The name of each kind over there, and of its fields in the order of ours.
_NAMES: dict[type[Event], tuple[str, ...]] = {
    Gaussian: ("GaussianDpEvent", "noise_multiplier"),
    MixtureOfGaussians: (
        "MixtureOfGaussiansDpEvent",
        "standard_deviation",
        "sensitivities",
        "sampling_probs",
    ),
    Laplace: ("LaplaceDpEvent", "noise_multiplier"),
    DiscreteLaplace: ("DiscreteLaplaceDpEvent", "noise_parameter", "sensitivity"),
    RandomizedResponse: ("RandomizedResponseDpEvent", "noise_parameter", "num_buckets"),
    ZCDP: ("ZCDpEvent", "rho", "xi"),
    ApproxDP: ("EpsilonDeltaDpEvent", "epsilon", "delta"),
    NonPrivate: ("NonPrivateDpEvent",),
    Poisson: ("PoissonSampledDpEvent", "sampling_probability", "event"),
    WithoutReplacement: (
        "SampledWithoutReplacementDpEvent",
        "sample_size",
        "source_dataset_size",
        "event",
    ),
    WithReplacement: (
        "SampledWithReplacementDpEvent",
        "sample_size",
        "source_dataset_size",
        "event",
    ),
    PrivateSelection: ("RepeatAndSelectDpEvent", "event", "mean", "shape"),
    Repeat: ("SelfComposedDpEvent", "event", "count"),
    Compose: ("ComposedDpEvent", "events"),
}
_KINDS = {names[0]: kind for kind, names in _NAMES.items()}
_NOTHING = "NoOpDpEvent"
_TRUNCATED = "TruncatedSubsampledGaussianDpEvent"
_TRUNCATED_FIELDS = ("sampling_probability", "truncated_batch_size", "dataset_size")


def from_dp_event(dp_event: Any) -> Event:
    """The event that a ``dp_accounting.DpEvent``, or its NamedTuple form, describes.

    ValueError for one that has no counterpart here (tree aggregation, unsupported). The
    neighbouring relation is not part of a DpEvent: ask under the same one.

    >>> from collections import namedtuple
    >>> GaussianDpEvent = namedtuple("GaussianDpEvent", ["noise_multiplier"])
    >>> from_dp_event(GaussianDpEvent(2.0))
    Gaussian(2.0)
    """
    name = getattr(dp_event, "class_name", type(dp_event).__name__)
    if name == _NOTHING:
        return Compose(())
    if name == _TRUNCATED:
        rate, cap, size = (_read(getattr(dp_event, field)) for field in _TRUNCATED_FIELDS)
        return TruncatedPoisson(rate, cap, size, Gaussian(_read(dp_event.noise_multiplier)))
    if name not in _KINDS:
        raise ValueError(
            f"from_dp_event: expected one of {sorted([*_KINDS, _NOTHING, _TRUNCATED])} "
            f"but got {name}; describe the mechanism with an event of dpfunc.accounting."
        )
    kind: type[Any] = _KINDS[name]
    event: Event = kind(*(_read(getattr(dp_event, field)) for field in _NAMES[kind][1:]))
    return event


def to_dp_event(event: Event) -> Any:
    """The ``dp_accounting.DpEvent`` that describes ``event``.

    ValueError for an event that has no counterpart there; ImportError without ``dp_accounting``.
    """
    require_event("to_dp_event", event)
    try:
        from dp_accounting import dp_event as theirs  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ImportError("to_dp_event builds their classes: pip install dp-accounting") from error
    return _write(event, theirs)


def _read(value: Any) -> Any:
    """An attribute of theirs as a field of ours: a nested event, a tuple, a plain number."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(_read, value))
    if isinstance(value, int | float):
        return value
    if hasattr(value, "item"):  # a NumPy number or array
        return _read(value.tolist())
    return from_dp_event(value)


def _write(value: Any, theirs: Any) -> Any:
    if isinstance(value, tuple):
        return [_write(part, theirs) for part in value]
    if not isinstance(value, Event):
        return value
    if isinstance(value, TruncatedPoisson) and isinstance(value.event, Gaussian):
        numbers = (value.sample_rate, value.max_batch_size, value.dataset_size)
        named = dict(zip(_TRUNCATED_FIELDS, numbers, strict=True))
        return getattr(theirs, _TRUNCATED)(**named, noise_multiplier=value.event.noise_multiplier)
    if value == Compose(()):
        return getattr(theirs, _NOTHING)()
    names = _NAMES.get(type(value), (type(value).__name__,))
    if not hasattr(theirs, names[0]):
        raise ValueError(
            f"to_dp_event: expected an event that dp_accounting can describe but got {value!r}; "
            "ask dpfunc.accounting about it instead."
        )
    own = [field.name for field in fields(value)]  # type: ignore[arg-type]  # all are dataclasses
    parts = {
        name: _write(getattr(value, field), theirs)
        for name, field in zip(names[1:], own, strict=True)
    }
    return getattr(theirs, names[0])(**parts)
