"""Random operations in a look at a loss: drawn again for the same sample, wherever it is run.

A look compares runs: a sample in a batch with the same sample alone, a batch with its parts. Chance
would make them differ. So in a look a random operation gets its numbers from a key, its place among
the random operations, the sample, and the position within the sample. What it draws *with*, the
mean of a normal or the probability of a mask, is computed from data: it is kept to be compared.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.batches.nested import tensors_in
from dpfunc.persample.whole_batch.places import Place, from_rows
from dpfunc.random.continuous import uniform
from dpfunc.random.keys import Key, fold_in

_KEPT = 0.85  # one number a sample decides on a whole layer: most such layers stay in a look


class Draws(TorchFunctionMode):
    """Inside, random operations give ``samples``, numbers of samples ``[B]``, their own numbers.

    ``places``: where the samples are in what each operation draws, in order; without them they are
    learned: on the first axis, if the number of samples divides it. ``parameters``: the tensors
    that were drawn with, in order.
    """

    def __init__(
        self, key: Key, samples: Tensor, places: Sequence[Place | None] | None = None
    ) -> None:
        super().__init__()
        self.places: list[Place | None] = []
        self.parameters: list[Tensor] = []
        self._key = key
        self._samples = samples.cpu()
        self._known = places

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        draw = _DRAWN.get(name)
        if draw is None or (name == "rrelu" and not _argument(args, kwargs, 3, "training", False)):
            return func(*args, **kwargs)
        differentiable = name in _DIFFERENTIABLE
        result = tensors_in((args, kwargs))[0] if differentiable else func(*args, **kwargs)
        target = args[:1] if name.endswith(("_", "_like")) else ()
        self.parameters += [
            values.detach().clone()
            for values in tensors_in((args[len(target) :], kwargs))
            if values.is_floating_point()
        ]
        chance = self._uniform(result)
        if differentiable:
            return draw(chance.to(result.dtype), args, kwargs)
        with torch.no_grad():
            return result.copy_(draw(chance, args, kwargs))

    def _uniform(self, result: Tensor) -> Tensor:
        """Numbers between 0 and 1 of the shape of ``result``."""
        place = self._place(result)
        key = fold_in(self._key, len(self.places))
        if place is None:
            return uniform(key, tuple(result.shape), dtype=torch.float64).to(result.device)
        shape = list(result.shape)
        shape[place.axis : place.axis + 1] = [place.times]  # of one sample
        first = uniform(fold_in(key, "first"), tuple(shape), dtype=torch.float64)
        step = uniform(fold_in(key, "step"), tuple(shape), dtype=torch.float64)
        number = self._samples.to(torch.float64).reshape(-1, *(1 for _ in shape))
        rows = (first + number * step) % 1.0  # [B, ...], never the same for two samples
        if first.numel() == 1:
            rows = _KEPT + (1 - _KEPT) * rows
        return from_rows(rows, place, split=True).to(result.device)

    def _place(self, result: Tensor) -> Place | None:
        here, size = len(self.places), len(self._samples)
        if self._known is not None:
            place = self._known[here] if here < len(self._known) else None
        else:
            place = place_of_draw(result, size)
        self.places.append(place)
        fits = place is None or result.shape[place.axis] == place.times * size
        return place if fits else None


def place_of_draw(result: Tensor, size: int) -> Place | None:
    """Where ``size`` samples are in what was drawn: on the first axis, or nowhere."""
    length = result.shape[0] if result.dim() else 0
    return Place(0, length // size) if length and length % size == 0 else None


def is_draw(function: Any) -> bool:
    """Whether `Draws` knows this random operation."""
    return getattr(function, "__name__", "") in _DRAWN


def draws_differ(whole: Draws, part: Draws, samples: Tensor, relative: float) -> bool:
    """Whether ``part`` has drawn with other numbers than ``whole`` for its ``samples``.

    ``samples``: of which places among those of ``whole`` the part is. ``relative``: the tolerance.
    """
    if len(whole.parameters) != len(part.parameters):
        return True
    size = len(whole._samples)
    for of_all, here in zip(whole.parameters, part.parameters, strict=True):
        there = of_all
        for axis, (long, short) in enumerate(zip(there.shape, here.shape, strict=False)):
            if long != short and long % size == 0:
                rows = there.unflatten(axis, (size, -1))
                rows = rows.index_select(axis, samples.to(there.device))
                there = rows.flatten(axis, axis + 1)
                break
        if there.shape != here.shape:
            return True
        apart = float((there.double() - here.double()).norm())
        if not apart <= relative * float(there.double().norm()) + 1e-12:
            return True
    return False


def _argument(args: Any, kwargs: Any, place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


Draw = Callable[..., Any]
"""``draw(chance, args, kwargs)``: what the operation gives for these numbers between 0 and 1."""


def _normal(chance: Tensor) -> Any:
    return torch.special.ndtri(chance.clamp(1e-9, 1 - 1e-9))


def _as_it_is(chance: Tensor, *_: Any) -> Tensor:
    return chance


def _standard_normal(chance: Tensor, *_: Any) -> Any:
    return _normal(chance)


def _scaled(mean_at: int) -> Draw:
    def draw(chance: Tensor, args: Any, kwargs: Any) -> Any:
        mean = _argument(args, kwargs, mean_at, "mean", 0.0)
        std = _argument(args, kwargs, mean_at + 1, "std", 1.0)
        return mean + std * _normal(chance)

    return draw


def _between(chance: Tensor, args: Any, kwargs: Any) -> Any:
    low = _argument(args, kwargs, 1, "from", 0.0)
    return low + (_argument(args, kwargs, 2, "to", 1.0) - low) * chance


def _masked(chance: Tensor, args: Any, kwargs: Any) -> Any:
    probability = _argument(args, kwargs, 1, "p", None)
    if not isinstance(probability, Tensor | float | int):
        probability = args[0] if len(args) else kwargs["input"]
    return 1 - chance < probability


def _masked_in_place(chance: Tensor, args: Any, kwargs: Any) -> Any:
    return 1 - chance < _argument(args, kwargs, 1, "p", 0.5)


def _waiting(chance: Tensor, args: Any, kwargs: Any) -> Any:
    return -chance.clamp(min=1e-12).log() / _argument(args, kwargs, 1, "lambd", 1.0)


def _whole(first: int) -> Draw:
    """For ``randint(low=0, high, size)`` from the argument at ``first`` on."""

    def draw(chance: Tensor, args: Any, kwargs: Any) -> Any:
        bounds = [part for part in args[first:] if isinstance(part, int)]
        bounds = [kwargs["low"], *bounds] if "low" in kwargs else bounds
        bounds = [*bounds, kwargs["high"]] if "high" in kwargs else bounds
        low, high = bounds[:2] if len(bounds) > 1 else (0, bounds[0] if bounds else 2)
        return (low + chance * (high - low)).floor().clamp(max=high - 1)

    return draw


def _gumbel_softmax(chance: Tensor, args: Any, kwargs: Any) -> Any:
    logits = args[0] if args else kwargs["logits"]
    tau, dim = _argument(args, kwargs, 1, "tau", 1.0), _argument(args, kwargs, 4, "dim", -1)
    gumbels = -(-chance.clamp(1e-9, 1 - 1e-9).log()).log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not _argument(args, kwargs, 2, "hard", False):
        return soft
    hard = torch.zeros_like(logits).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def _rrelu(chance: Tensor, args: Any, kwargs: Any) -> Any:
    values = args[0] if args else kwargs["input"]
    lower, upper = (
        _argument(args, kwargs, 1, "lower", 1 / 8),
        _argument(args, kwargs, 2, "upper", 1 / 3),
    )
    slopes = lower + (upper - lower) * chance
    return F.relu(values) - slopes * F.relu(-values)


_DIFFERENTIABLE = {"gumbel_softmax", "rrelu"}
_DRAWN: dict[str, Draw] = {
    **dict.fromkeys(("rand", "rand_like"), _as_it_is),
    **dict.fromkeys(("randn", "randn_like"), _standard_normal),
    "normal": _scaled(0),
    "normal_": _scaled(1),
    "uniform_": _between,
    "bernoulli": _masked,
    "bernoulli_": _masked_in_place,
    "exponential_": _waiting,
    "randint": _whole(0),
    "randint_like": _whole(1),
    "random_": _whole(1),
    "gumbel_softmax": _gumbel_softmax,
    "rrelu": _rrelu,
}
