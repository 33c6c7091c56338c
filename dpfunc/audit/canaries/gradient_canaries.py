"""A loss that takes canaries: records whose gradients point along axes of their own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpfunc.checks import is_count, plain, require
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
    """

    loss_fn: Callable[..., Tensor]
    params: Callable[[Tensors], Tensors]
    records: Callable[[Sequence[Tensor], Tensor], tuple[Tensor, ...]]


def gradient_canaries(
    loss_fn: Callable[..., Tensor], count: int, *, max_norm: float = 1.0
) -> Canaries:
    """Make ``count`` canaries for a loss of one sample: ordinary records of the run.

    A batch gets one more tensor, the number of the canary, -1 for real records (`real_numbers`).
    Canary i pulls coordinate i of one more parameter, and nothing else, with 100 times
    ``max_norm``, the clipping norm. Sampler, engine, clipping, sum, noise, divisor and ledger are
    those of the run. What is released along coordinate i, times ``-expected_batch_size /
    max_norm``, is ``b + sigma z``: b is 1 in the steps whose sample holds canary i and else 0, z is
    standard normal, and sigma the noise multiplier. That is the accountant's dominating pair,
    independent over canaries (`audit_release` looks whether it is).

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

    def records(batch: Sequence[Tensor], numbers: Tensor) -> tuple[Tensor, ...]:
        first = torch.zeros(len(numbers), dtype=torch.int64)
        return (*(part[first.to(part.device)] for part in batch), numbers)

    return Canaries(with_canaries, with_parameter, records)


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
