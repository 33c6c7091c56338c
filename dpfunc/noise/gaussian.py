"""Noise mechanisms: a `Summed` (values and their L2 sensitivity) in, a private release out."""

import math
from dataclasses import KW_ONLY, dataclass, field

import torch

from dpfunc.accounting import Event, dp_sgd
from dpfunc.checks import is_real, require
from dpfunc.noise.lattice import Kernel, release, spacing, widened
from dpfunc.random.keys import Key, fold_in
from dpfunc.types import State, Summed, Tensors


@dataclass(frozen=True)
class GaussianNoise:
    """Add ``Normal(0, (noise_multiplier * sensitivity)**2)`` to each coordinate, on a lattice.

    The sum is rounded to a grid of about ``2**-10 bound / sqrt(P)`` for P coordinates, and Gaussian
    noise that is correctly rounded to the grid is added. The ``sensitivity`` is that of the rounded
    sum, ``(1 + 2**-9) * summed.bound`` (`dpfunc.noise.lattice`).

    Guarantee: one release is the Gaussian mechanism with noise multiplier ``noise_multiplier``
    (standard deviation over L2 sensitivity), post-processed: ``Normal(0, sigma**2)`` against
    ``Normal(1, sigma**2)`` dominates it under adding or removing one sample (Balle and Wang 2018,
    arXiv:1805.06530; Dong, Roth and Su 2019, arXiv:1905.02383, section 2.3). The noise leaks
    nothing through floating point (Mironov 2012); docs/randomness.md says how far the sensitivity
    of float sums is proven.

    The noise is a pure function of (key, branch, step, parameter name), the same on every device:
    no step repeats another's noise, and a run resumed from its state goes on with fresh noise. One
    key is for one run. A step taken twice with one key, on other data, parameters, hyperparameters
    or dropout masks, has the same noise both times, and the difference of the releases has none:
    make a new key for every run, and `resume` with a new key for every branch of a run.

    ``kernel``: how to compute the release, see `dpfunc.compile`, which sets it; not what it is.

    | case | result |
    |---|---|
    | ``noise_multiplier == 0`` | the sum unchanged: not private, epsilon is infinite |
    | ``bound == 0`` | the sum, which is zero, unchanged |
    | infinite ``bound`` and noise | ValueError: no noise protects an unclipped sum |
    | not a `Summed` | TypeError |
    | a state of another key or noise multiplier | ValueError |

    >>> import dpfunc as dp
    >>> GaussianNoise(1.1, key=dp.key()).init({})["step"]
    0
    """

    noise_multiplier: float
    _: KW_ONLY
    key: Key
    kernel: Kernel | None = field(default=None, repr=False, compare=False)

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
        require(
            branch not in state["branches"],
            "resume",
            "a key that has not begun a branch of this run",
            "one that has",
            "its noise may have been released already: pass key=dpfunc.key()",
        )
        return self._state(state["step"], [*state["branches"], branch])

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        require(
            isinstance(summed, Summed),
            "GaussianNoise",
            "a Summed, whose bound sets the scale of the noise",
            type(summed).__name__,
            "pass the result of dpfunc.weighted_sum(grads, weights)",
            error=TypeError,
        )
        self._require_own(state)
        step, branches = state["step"], state["branches"]
        deviation = self._deviation(summed.bound)
        size = sum(value.numel() for value in summed.values.values())
        grid = spacing(summed.bound, size) if deviation > 0 else 0.0
        released: Tensors = {}
        for name, value in summed.values.items():
            if deviation > 0:
                key = fold_in(self.key, "noise", *branches[-1:], step, name)
                released[name] = release(
                    value, key, deviation=deviation, grid=grid, kernel=self.kernel
                )
            else:
                released[name] = value.to(torch.promote_types(value.dtype, torch.float32))
        return released, self._state(step + 1, branches)

    def event(self, state: State, *, sample_rate: float) -> Event:
        self._require_own(state)
        return dp_sgd(
            noise_multiplier=self.noise_multiplier, sample_rate=sample_rate, steps=state["step"]
        )

    def _state(self, step: int, branches: list[str]) -> State:
        return {"step": step, "branches": branches, "run": self._run(branches)}

    def _run(self, branches: list[str]) -> str:
        """Tells runs apart and nothing about the key."""
        multiplier = float(self.noise_multiplier).hex()
        return fold_in(self.key, "run", multiplier, *branches).secret_bytes.hex()[:32]

    def _require_own(self, state: State) -> None:
        require(
            state.keys() == {"step", "branches", "run"}
            and state["run"] == self._run(state["branches"]),
            "GaussianNoise",
            "a state of this key and noise_multiplier, from init, add or resume",
            state,
            "load the key that the run was started with, or begin a new run with init; "
            "for another noise_multiplier compose the events of two runs",
        )

    def _deviation(self, bound: float) -> float:
        if self.noise_multiplier == 0:
            return 0.0
        require(
            0 <= bound < math.inf,
            "GaussianNoise",
            "a sum with a finite L2 bound",
            bound,
            "clip with a finite max_norm, or set noise_multiplier=0 to train without privacy",
        )
        return self.noise_multiplier * widened(bound)
