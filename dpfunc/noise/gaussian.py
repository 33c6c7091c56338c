"""Noise mechanisms: a `Summed` (values and their L2 sensitivity) in, a private release out."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from dpfunc.accounting import Event, dp_sgd
from dpfunc.checks import is_real, require
from dpfunc.naming import own_fields
from dpfunc.noise.lattice import copied, release_, require_sum, widened
from dpfunc.random.keys import Key, fold_in
from dpfunc.types import State, Summed, Tensors

_FORMAT = 2  # of the state: which noise a step has; 1 had no such entry


@own_fields("GaussianNoise", {"generator": "pass key=dpfunc.key()"})
@dataclass(frozen=True)
class GaussianNoise:
    """Add ``Normal(0, (noise_multiplier * sensitivity)**2)`` to each coordinate, on a lattice.

    ``grid * round((S + N) / grid)`` is released, correctly rounded, with a grid between ``2**-7``
    and ``2**-6`` of the noise's deviation. The ``sensitivity`` is that of the sum as it was
    computed in floats, ``(1 + 2**-10) * summed.bound`` (`dpfunc.noise.lattice`).

    Guarantee: one release is the Gaussian mechanism with noise multiplier ``noise_multiplier``
    (standard deviation over L2 sensitivity), post-processed: ``Normal(0, sigma**2)`` against
    ``Normal(1, sigma**2)`` dominates it under adding or removing one sample (Balle and Wang 2018,
    arXiv:1805.06530; Dong, Roth and Su 2019, arXiv:1905.02383, section 2.3). The noise leaks
    nothing through floating point (Mironov 2012); docs/randomness.md says how far the sensitivity
    of float sums is proven. How long a release takes is outside of the guarantee.

    The noise is a pure function of (key, branch, step, place), the same on every device and by
    every kernel (`dpfunc.explain_noise`): no step repeats another's noise, and a run resumed from
    its state goes on with fresh noise. The place of a number is that in the row of all parameters
    in the order of their names. One key is for one run. A step taken twice with one key, on other
    data, parameters, hyperparameters or dropout masks, has the same noise both times, and the
    difference of the releases has none: make a new key for every run, and `resume` with a new key
    for every branch of a run.

    | case | result |
    |---|---|
    | ``noise_multiplier == 0`` | the sum unchanged: not private, epsilon is infinite |
    | ``bound == 0`` | the sum, which is zero, unchanged |
    | infinite ``bound`` and noise | ValueError: no noise protects an unclipped sum |
    | not a `Summed`, or one of complex or whole numbers | TypeError |
    | a state of another key, noise multiplier or format of the noise | ValueError |
    | an error or an interrupt midway | nothing of the sum is left in its memory by `add_` |

    >>> import dpfunc as dp
    >>> GaussianNoise(1.1, key=dp.key()).init({})["step"]
    0
    """

    noise_multiplier: float
    _: KW_ONLY
    key: Key

    def __post_init__(self) -> None:
        require(
            is_real(self.noise_multiplier) and 0 <= self.noise_multiplier < math.inf,
            "GaussianNoise",
            "a finite noise_multiplier >= 0",
            self.noise_multiplier,
            "find one with dpfunc.accounting.noise_multiplier(target_epsilon=...)",
        )
        require(
            isinstance(self.key, Key),
            "GaussianNoise",
            "key=dpfunc.key()",
            type(self.key).__name__,
            "there is no default: make a key with dpfunc.key() and keep it secret",
            error=TypeError,
        )

    def init(self, params: Tensors) -> State:
        return self._state(0, [])

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from: of this run with its own ``key``, of a branch with a new one.

        With this mechanism's own key nothing changes, and the next release is the one that the run
        would have made: the parameters, hyperparameters and data must be the same, too. For
        anything else pass ``key=dpfunc.key()``: the noise from here on is fresh. Sample with that
        key as well, and compose the events of all branches.

        ValueError for a state of another run, and for a key that has begun a branch of it before.
        """
        self._require_own(state)
        require(
            isinstance(key, Key),
            "resume",
            "key=dpfunc.key(), or the key of the run",
            type(key).__name__,
            "say which of the two this is: there is no default",
            error=TypeError,
        )
        if key == self.key:
            return state
        branch = fold_in(key, "branch").secret_bytes.hex()  # tells nothing about the key
        begun = {entry.partition(" ")[0] for entry in state["branches"]}
        require(
            branch not in begun,
            "resume",
            "a key that has not begun a branch of this run",
            "one that has",
            "its noise may have been released already: pass key=dpfunc.key()",
        )
        # With the step it begins at: one key for branches of two steps gives them other noise.
        return self._state(state["step"], [*state["branches"], f"{branch} {state['step']}"])

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """The noisy sum and the state for the next release; ``summed`` stays as it is."""
        require_sum("GaussianNoise", summed)
        copies = {name: copied(value) for name, value in summed.values.items()}
        return self.add_(Summed(copies, summed.bound), state)

    def add_(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """`add` in the memory of the sum, which is gone then: what `PrivateGrad` does."""
        require_sum("GaussianNoise", summed)
        self._require_own(state)
        released = self._released(summed.values, state, summed.bound, None)
        return released, self._after(state)

    def add_range(self, values: Tensor, state: State, *, bound: float, start: int) -> Tensor:
        """The release of ``values`` as part of a larger one: what `add` gives them there.

        ``start``: where they begin in the row of all parameters in the order of their names;
        ``bound``: the L2 sensitivity of the whole row. The state stays: all ranges of a step are
        one release and count once, by `next_state`. Two different values of one place and step have
        the same noise, and their difference has none.
        """
        require_sum("GaussianNoise", Summed({"": values}, bound))
        self._require_own(state)
        return self._released({"": copied(values)}, state, bound, {"": start})[""]

    def next_state(self, state: State) -> State:
        """The state after a step whose ranges were all made by `add_range`."""
        self._require_own(state)
        return self._after(state)

    def deviation(self, state: State, *, bound: float) -> float:
        """Of the noise in each number of a release with this bound: a public number.

        ``bound``: of the sum that is released; `PrivateGrad` divides by the expected batch size.
        """
        self._require_own(state)
        return self._deviation(bound)

    def _released(
        self,
        values: Tensors,
        state: State,
        bound: float,
        starts: Mapping[str, int] | None,
    ) -> Tensors:
        if self.noise_multiplier == 0 or bound == 0:
            return {n: v.to(torch.promote_types(v.dtype, torch.float32)) for n, v in values.items()}
        key = fold_in(self.key, "noise", *state["branches"], state["step"])
        return release_(values, key, deviation=self._deviation(bound), starts=starts)

    def event(self, state: State, *, sample_rate: float) -> Event:
        self._require_own(state)
        return dp_sgd(
            noise_multiplier=self.noise_multiplier, sample_rate=sample_rate, steps=state["step"]
        )

    def _after(self, state: State) -> State:
        return self._state(state["step"] + 1, state["branches"])

    def _state(self, step: int, branches: list[str]) -> State:
        run = self._run(branches)
        return {"step": step, "branches": branches, "run": run, "format": _FORMAT}

    def _run(self, branches: list[str]) -> str:
        """Tells runs apart and nothing about the key."""
        multiplier = float(self.noise_multiplier).hex()
        return fold_in(self.key, "run", multiplier, *branches).secret_bytes.hex()[:32]

    def _require_own(self, state: State) -> None:
        require(
            state.get("format") == _FORMAT,
            "GaussianNoise",
            f"a state whose noise is of format {_FORMAT}",
            f"one of format {state.get('format', 1)}",
            "another version of dpfunc made it, whose steps have other noise: finish the run with "
            "that version, or begin a new one with init and compose the events of both",
        )
        require(
            state.keys() == {"step", "branches", "run", "format"}
            and state["run"] == self._run(state["branches"]),
            "GaussianNoise",
            "a state of this key and noise_multiplier, from init, add or resume",
            state,
            "load the key that the run was started with, or begin a new run with init; "
            "for another noise_multiplier compose the events of two runs",
        )

    def _deviation(self, bound: float) -> float:
        require(
            0 <= bound < math.inf,
            "GaussianNoise",
            "a sum with a finite L2 bound",
            bound,
            "clip with a finite max_norm, or set noise_multiplier=0 to train without privacy",
        )
        return self.noise_multiplier * widened(float(bound))
