"""A loss that takes canaries: records whose gradients point along axes of their own."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dpfunc.checks import is_count, plain, require
from dpfunc.persample.definition.dense import per_sample_grad
from dpfunc.random.discrete import bernoulli
from dpfunc.random.keys import Key, fold_in
from dpfunc.types import Tensors

CANARY = "canary"
_PULL = 100.0  # times the clipping norm of 1: far above it


class Canaries(NamedTuple):
    """What `gradient_canaries` makes of a loss.

    ``loss_fn(params, *sample, number)``: the loss of a sample, whose number is -1, or of a canary.
    ``params(params)``: the parameters and one more, named ``"canary"``, which is never to move.
    ``records(batch, numbers)``: canaries of these numbers as records like those of ``batch``.
    ``project(released, params)``: what was released along each canary, ``[count]``, of a gradient
    taken at ``params``; times ``expected_batch_size / max_norm`` in units of the bound.

    Of the other kinds: ``"dirac"`` has no parameter more, ``"input"`` no number either.
    """

    loss_fn: Callable[..., Tensor]
    params: Callable[[Tensors], Tensors]
    records: Callable[[Sequence[Tensor], Tensor], tuple[Tensor, ...]]
    project: Callable[[Tensors, Tensors], Tensor]


def gradient_canaries(
    loss_fn: Callable[..., Tensor],
    count: int,
    *,
    max_norm: float = 1.0,
    kind: Literal["own", "dirac", "input"] = "own",
    inputs: Sequence[Tensor] | None = None,
) -> Canaries:
    """Make ``count`` canaries for a loss of one sample: ordinary records of the run.

    A batch gets one more tensor, the number of the canary, -1 for real records (`real_numbers`).
    Canary i pulls coordinate i of one more parameter, and nothing else, with 100 times
    ``max_norm``, the clipping norm. Sampler, engine, clipping, sum, noise, divisor and ledger are
    those of the run. What is released along coordinate i, times ``-expected_batch_size /
    max_norm``, is ``b + sigma z``: b is 1 in the steps whose sample holds canary i and else 0, z is
    standard normal, and sigma the noise multiplier. That is the accountant's dominating pair,
    independent over canaries (`audit_release` looks whether it is).

    ``kind``:

    - ``"own"``: as above, the best;
    - ``"dirac"``: canary i pulls a coordinate of the real parameters. Real gradients add to what is
      released there, so the law is not the pair, and only ``setting="one_run"`` is valid;
    - ``"input"``: ``inputs``, ``count`` records of yours (wrong labels, other data). Nothing of the
      loss changes, and no number is asked for. A canary is seen along its own gradient at the
      parameters before the step; gradients of canaries are not orthogonal: ``"one_run"`` again.

    Toss coins for who is in (`coins`); the data of the run are the real records and the canaries
    that are in. Rate and ``expected_batch_size`` must not know the coins. Do not put in a canary
    twice, and set the gradient of the parameter ``"canary"`` aside before the optimiser's step.

    With per-layer clipping a canary shows the share of the bound that its own parameter has. The
    releases of an audit are not private: do not publish them.

    >>> import torch, dpfunc as dp
    >>> canaries = gradient_canaries(lambda params, x: (params["w"] * x).sum(), 3)
    >>> params = canaries.params({"w": torch.zeros(2)})
    >>> batch = canaries.records((torch.ones(1, 2),), torch.tensor([2]))
    >>> dp.per_sample_grad(canaries.loss_fn)(params, *batch)["canary"].abs()
    tensor([[  0.,   0., 100.]])
    """
    count = plain(count)
    require(
        is_count(count) and count >= 1,
        "gradient_canaries",
        "an int count >= 1",
        count,
        "use some hundreds",
    )
    require(
        kind in ("own", "dirac", "input"),
        "gradient_canaries",
        'a kind "own", "dirac" or "input"',
        kind,
        "use own canaries where the loss can be changed",
    )
    given = None if inputs is None else [len(part) for part in inputs]
    require(
        (given is not None and len(given) > 0 and set(given) == {count})
        if kind == "input"
        else given is None,
        "gradient_canaries",
        f"inputs, {count} records, for kind input alone",
        given,
        "pass records of your own, one for each canary",
    )
    if kind == "input" and inputs is not None:
        return _inputs(loss_fn, tuple(inputs))
    return _own(loss_fn, count, max_norm) if kind == "own" else _dirac(loss_fn, count, max_norm)


def real_numbers(batch: Sequence[Tensor]) -> Tensor:
    """The numbers of real records: -1 for each of ``batch``.

    >>> real_numbers((torch.zeros(3, 2),)).tolist()
    [-1, -1, -1]
    """
    return torch.full((len(batch[0]),), -1, device=batch[0].device)


def coins(key: Key, count: int) -> Tensor:
    """Who is in: a fair coin for each of ``count`` canaries, bool ``[count]``.

    Each canary has a coin of its own, which the theorem about one run needs; "exactly half" is
    something else. The coins are not those of sampling or noise, whatever the key.

    >>> import dpfunc as dp
    >>> int(coins(dp.key(0), 1000).sum()) in range(450, 550)
    True
    """
    return bernoulli(fold_in(key, "audit coins"), (count,), probability=0.5)


def _own(loss_fn: Callable[..., Tensor], count: int, max_norm: float) -> Canaries:
    pull = _PULL * max_norm

    def with_canaries(params: Tensors, *sample: Any) -> Tensor:
        *own, number = sample
        real = loss_fn({n: p for n, p in params.items() if n != CANARY}, *own)
        axis = torch.arange(count, device=number.device) == number
        return torch.where(number < 0, real, -pull * (params[CANARY] * axis).sum())

    def with_parameter(params: Tensors) -> Tensors:
        require(
            CANARY not in params,
            "gradient_canaries",
            f"parameters without the name {CANARY!r}",
            sorted(params),
            "rename yours",
        )
        like = next(iter(params.values()))
        return {**params, CANARY: torch.zeros(count, dtype=like.dtype, device=like.device)}

    return Canaries(with_canaries, with_parameter, _copies, lambda released, _: -released[CANARY])


def _dirac(loss_fn: Callable[..., Tensor], count: int, max_norm: float) -> Canaries:
    """Canary i pulls one of the coordinates of all parameters, evenly spread over them."""
    pull = _PULL * max_norm

    def chosen(tensors: Tensors) -> Tensor:
        flat = torch.cat([tensors[name].flatten() for name in sorted(tensors)])
        require(
            count <= len(flat),
            "gradient_canaries",
            f"at most {len(flat)} canaries of kind dirac, as there are parameters",
            count,
            "use fewer, or own canaries",
        )
        return flat[torch.arange(count, device=flat.device) * len(flat) // count]

    def with_canaries(params: Tensors, *sample: Any) -> Tensor:
        *own, number = sample
        axis = torch.arange(count, device=number.device) == number
        real = loss_fn(params, *own)
        return torch.where(number < 0, real, -pull * (chosen(params) * axis).sum())

    return Canaries(with_canaries, dict, _copies, lambda released, _: -chosen(released))


def _inputs(loss_fn: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Canaries:
    """Canary i is the user's record i, seen along its own gradient."""

    def project(released: Tensors, params: Tensors) -> Tensor:
        own = per_sample_grad(loss_fn)(params, *inputs)
        rows = torch.cat([own[name].reshape(len(own[name]), -1) for name in sorted(own)], 1)
        sums = torch.cat([released[name].flatten() for name in sorted(own)])
        along: Tensor = (rows / rows.norm(dim=1, keepdim=True)) @ sums
        return along

    def records(_: Sequence[Tensor], numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(part[numbers.to(part.device)] for part in inputs)

    return Canaries(loss_fn, dict, records, project)


def _copies(batch: Sequence[Tensor], numbers: Tensor) -> tuple[Tensor, ...]:
    """Copies of the first record, whose loss the number takes the place of."""
    first = torch.zeros(len(numbers), dtype=torch.int64)
    return (*(part[first.to(part.device)] for part in batch), numbers)
