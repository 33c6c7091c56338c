"""`replay`: a whole training on two neighbouring data sets, with the same releases in both."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.audit.steps.report import Finding, Report
from dpfunc.checks import require
from dpfunc.random.keys import Key, require_key
from dpfunc.types import NoiseMechanism, State, Summed, Tensors

_TOL = 1e-3


@dataclass
class RecordingNoise:
    """A noise mechanism that keeps each sum, and answers with its own or with what is given.

    It protects nothing: it exists to see what a training hands to its noise.
    """

    answers: list[Tensors] | None = None
    seen: list[Summed] = field(default_factory=list)

    def init(self, params: Tensors) -> State:
        """Nothing is kept in the state; ``params`` are not needed."""
        return {"params": len(params), "calls": 0}

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """The sum itself, or what was answered to this call before."""
        call = len(self.seen)
        state = {**state, "calls": call + 1}
        self.seen.append(Summed({n: v.clone() for n, v in summed.values.items()}, summed.bound))
        if self.answers is None or call >= len(self.answers):
            return {name: value.clone() for name, value in summed.values.items()}, state
        return {name: value.clone() for name, value in self.answers[call].items()}, state

    def event(self, state: State, *, sample_rate: float) -> Event:
        """There is none."""
        raise ValueError(f"RecordingNoise: it adds no noise, in {state} at rate {sample_rate}.")

    def resume(self, state: State, *, key: Key) -> State:
        """The state as it is, whatever the ``key``."""
        require_key("RecordingNoise", key)
        return state


def replay(
    run: Callable[[Any, NoiseMechanism], object], records: Any, neighbour: Any, *, tol: float = _TOL
) -> Report:
    """Train on ``records`` and on ``neighbour``, which has one record more or less, and compare.

    ``run(records, noise)`` is a whole training that hands its sums to ``noise`` (`PrivateGrad`
    does). The second training is answered with what the first released, so that the parameters of
    both are equal step by step, as the guarantee assumes of the adversary. Then at every step the
    number, names, shapes, dtypes and bounds of the sums are equal, and the sums differ by at most
    the bound. It finds what a single step does not show: a divisor, a number of steps, a schedule
    or a clipping norm that knows the data.

    Guarantee: none; it finds faults of this run and these two data sets.

    >>> import torch, dpfunc as dp
    >>> def run(x, noise):
    ...     private = dp.PrivateGrad(lambda params, x: (params["w"] * x).sum(),
    ...                              clip=dp.Clip(1.0), noise=noise, expected_batch_size=2)
    ...     params = {"w": torch.zeros(2)}
    ...     state = private.init(params)
    ...     for _ in range(3):
    ...         grads, state, _ = private.update(params, x, state)
    ...         params = {"w": params["w"] - grads["w"]}
    >>> bool(replay(run, torch.eye(2), torch.eye(2)[:1]))
    True
    """
    require(callable(run), "replay", "a run(records, noise)", type(run).__name__, "pass a function")
    first = RecordingNoise()
    run(records, first)
    require(
        len(first.seen) > 0,
        "replay",
        "a run that hands its sums to the noise",
        "none",
        "pass noise on to PrivateGrad(noise=noise)",
    )
    second = RecordingNoise([summed.values for summed in first.seen])
    run(neighbour, second)
    findings, worst = [], 0.0
    if len(first.seen) != len(second.seen):
        what = f"{len(first.seen)} releases on one data set and {len(second.seen)} on the other"
        findings.append(Finding("violation", "the run", what))
    for step, (one, other) in enumerate(zip(first.seen, second.seen, strict=False)):
        where = f"release {step}"
        if _form(one) != _form(other):
            findings.append(Finding("violation", where, "other names, shapes or dtypes"))
            continue
        if one.bound != other.bound:
            what = (
                f"the bound is {one.bound:.6g} on one data set and {other.bound:.6g} on the other"
            )
            findings.append(Finding("violation", where, what))
        moved = _norm(one.values[n].double() - other.values[n].double() for n in one.values)
        ratio = moved / one.bound if one.bound > 0 else (math.inf if moved > 0 else 0.0)
        worst = max(worst, ratio) if ratio == ratio else math.inf
        if not ratio <= 1 + tol:
            findings.append(Finding("violation", where, f"moved by {ratio:.4g} bounds", ratio))
    return Report("replay", tuple(findings), len(first.seen), worst)


def _form(summed: Summed) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(v.shape), str(v.dtype)) for name, v in summed.values.items()}


def _norm(values: Iterable[Tensor]) -> float:
    return math.sqrt(math.fsum(float(value.square().sum()) for value in values))
