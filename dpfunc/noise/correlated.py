"""`CorrelatedNoise`: noise of which later steps take back a part, for the sums of an optimiser."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from dpfunc.accounting import Event, dp_sgd
from dpfunc.checks import is_real, require
from dpfunc.noise import feedback, regenerated
from dpfunc.noise.correlated_state import (
    FORMAT,
    require_same_run,
    wiped,
    wiped_after_error,
)
from dpfunc.noise.lattice import copied, require_sum
from dpfunc.noise.sealing import opened, sealed
from dpfunc.random.keys import Key, fold_in
from dpfunc.strategies.records import Buffered, InverseToeplitz, Toeplitz
from dpfunc.strategies.workloads import noise_norm
from dpfunc.types import State, Summed, Tensors


@dataclass(frozen=True)
class CorrelatedNoise:
    """Release ``S + C^-1 Z`` instead of sums with independent noise, on a lattice.

    C is the matrix of the ``strategy``, and Z has in each coordinate of each step the deviation
    ``noise_multiplier * column_norm(strategy) * sensitivity``. So the noise multiplier is that of
    one participation: one step of one record costs what it costs under `GaussianNoise`.

    Guarantee: all releases together are a function of the Gaussian mechanism ``C S + Z`` of real
    numbers, also where the sums depend on earlier releases (Denisov et al. 2022, arXiv:2202.08312,
    theorem 2.1). Nothing leaks through floating point: docs/correlated.md has the proof, and says
    why rounding the noise of each step does not do. Which event that is depends on who takes part
    when: ``sampler.event(noise_multiplier, steps=..., strategy=strategy)`` of `dpfunc.sampling`, or
    `correlated.unamplified` for a promise of your own. How long a release takes is outside of it.

    Three ways, by the kind of strategy. `Toeplitz` (banded): whole numbers of earlier noise are
    kept in the state, bands - 1 for each parameter. `InverseToeplitz` (fractional): the normals of
    earlier steps are drawn again, and the state is a number. `Buffered` (BLT): some float64
    buffers, whose rounding is charged to the sensitivity. What is kept is sealed with the key
    (`sealing`): whoever has the noise and the release has the sum. Others are refused.

    One key is for one run, as in `GaussianNoise`. The bound and the parameters must stay the same:
    the noise of earlier steps is in their units.

    | case | result |
    |---|---|
    | ``noise_multiplier == 0``, ``bound == 0`` | the sum unchanged, as in `GaussianNoise` |
    | more steps than the strategy has | ValueError: the sensitivity would grow |
    | another bound, other parameters, another run's state | ValueError; nothing is released |
    | a new key in `resume` | ValueError: begin a new matrix by ``init``, and add both events |
    | numbers that float64 does not hold exactly | ValueError at the first step |
    | an error or an interrupt midway | nothing of the sum is left in its memory by `add_` |

    >>> import torch, dpfunc as dp
    >>> noise = dp.CorrelatedNoise(1.0, dp.correlated.banded(steps=100, bands=4), key=dp.key(0))
    >>> params = {"w": torch.zeros(3)}
    >>> noisy, state = noise.add(Summed({"w": torch.ones(3)}, 1.0), noise.init(params))
    >>> noisy["w"].shape, state["step"]
    (torch.Size([3]), 1)
    """

    noise_multiplier: float
    strategy: Toeplitz | InverseToeplitz | Buffered
    _: KW_ONLY
    key: Key
    _opened: Any = field(
        default_factory=WeakTensorKeyDictionary, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        require(
            is_real(self.noise_multiplier) and 0 <= self.noise_multiplier < math.inf,
            "CorrelatedNoise",
            "a finite noise_multiplier >= 0",
            self.noise_multiplier,
            "find one with dpfunc.correlated.noise_multiplier(target_epsilon=...)",
        )
        require(
            isinstance(self.strategy, Toeplitz | InverseToeplitz | Buffered),
            "CorrelatedNoise",
            "a banded, fractional or buffered strategy",
            type(self.strategy).__name__,
            "make one with dpfunc.correlated.banded(steps=, bands=)",
            error=TypeError,
        )
        require(
            isinstance(self.key, Key),
            "CorrelatedNoise",
            "key=dpfunc.key()",
            type(self.key).__name__,
            "there is no default: make a key with dpfunc.key() and keep it secret",
            error=TypeError,
        )

    def init(self, params: Tensors) -> State:
        """The state before the first step: ``params`` give the shapes, which stay."""
        shapes = {name: tuple(value.shape) for name, value in params.items()}
        return self._state(0, shapes, None, [])

    def resume(self, state: State, *, key: Key) -> State:
        """The same state, checked to be of this run: with its own key alone.

        The next release is the one that the run would have made, bit for bit, on the same sum.
        ValueError for another key: earlier noise cannot be taken back by a run that may not know
        it. Begin a new `CorrelatedNoise` by ``init``, with new keys for noise and samples, and
        compose the events of both.
        """
        self._require_own(state)
        require(
            key == self.key,
            "CorrelatedNoise.resume",
            "the key of the run",
            "another",
            "for a branch begin a new CorrelatedNoise with init, and compose the events of both",
        )
        return state

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """The noisy sum and the state for the next release; ``summed`` stays as it is."""
        bound = self._checked(summed, state)
        values = {name: copied(value) for name, value in summed.values.items()}
        with wiped_after_error(values):
            return self._released(values, state, bound)

    def add_(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """`add`, after which the memory of the sum holds zeros: what `PrivateGrad` does."""
        bound = self._checked(summed, state)
        with wiped(summed.values):
            values = {name: copied(value) for name, value in summed.values.items()}
            with wiped_after_error(values):
                return self._released(values, state, bound)

    def event(self, state: State, *, sample_rate: float) -> Event:
        """On Poisson samples: for one band alone, where noise is independent.

        ValueError for others: ask the sampler, ``sampler.event(noise_multiplier, steps=,
        strategy=)``.
        """
        self._require_own(state)
        require(
            self.strategy.bands == 1,
            "CorrelatedNoise.event",
            "one band on Poisson samples",
            f"{self.strategy.bands or 'all'} bands",
            "no theorem is known for them; sample with dpfunc.sampling.CyclicPoisson and ask "
            "its event(noise_multiplier, steps=..., strategy=...)",
        )
        return dp_sgd(
            noise_multiplier=self.noise_multiplier, sample_rate=sample_rate, steps=state["step"]
        )

    def deviation(self, state: State) -> float:
        """Of the noise in each number of the last release, in its own units: a public number.

        ``sigma ||C^-1[t]||``, another one in each step; 0 before the first.
        """
        self._require_own(state)
        if state["step"] == 0 or self.noise_multiplier == 0 or state["bound"] == 0:
            return 0.0
        step, bound = state["step"] - 1, state["bound"]
        if isinstance(self.strategy, InverseToeplitz):
            sigma = regenerated.deviation_of(self.strategy, self.noise_multiplier, bound)
        else:
            items = sum(math.prod(shape) for shape in state["shapes"].values())
            sigma = feedback.scales(self.strategy, self.noise_multiplier, bound, items).deviation
        return sigma * noise_norm(self.strategy, step)

    def _released(self, values: Tensors, state: State, bound: float) -> tuple[Tensors, State]:
        step, memory = state["step"], state["memory"]
        key = fold_in(self.key, "correlated noise")
        if self.noise_multiplier == 0 or bound == 0:
            return values, self._state(step + 1, state["shapes"], bound, memory)
        if isinstance(self.strategy, InverseToeplitz):
            released = regenerated.release_(
                values,
                key,
                step,
                self.strategy,
                noise_multiplier=self.noise_multiplier,
                bound=bound,
            )
            return released, self._state(step + 1, state["shapes"], bound, [])
        items = sum(value.numel() for value in values.values())
        found = feedback.scales(self.strategy, self.noise_multiplier, bound, items)
        devices = {name: value.device for name, value in values.items()}
        before = [self._open(entry, found, devices) for entry in memory]
        released, noise = feedback.release(values, before, self.strategy, found, fold_in(key, step))
        after = feedback.remembered(self.strategy, before, noise)
        if isinstance(self.strategy, Toeplitz):  # what was sealed before stays so
            entries = [self._seal(new, step, 0) for new in after[:1]] + memory
            entries = entries[: self.strategy.bands - 1]
        else:
            entries = [self._seal(new, step, j) for j, new in enumerate(after)]
        return released, self._state(step + 1, state["shapes"], bound, entries)

    def _seal(self, values: Tensors, step: int, slot: int) -> State:
        words = {}
        for name, value in values.items():
            words[name] = sealed(value, self._key_of(step, slot, name))
            self._opened[words[name]] = (words[name]._version, value)
        return {"step": step, "slot": slot, "words": words}

    def _open(
        self, entry: State, found: feedback.Scales, devices: dict[str, torch.device]
    ) -> Tensors:
        kind = found.whole if isinstance(self.strategy, Toeplitz) else torch.float64
        values = {}
        for name, words in entry["words"].items():
            version, value = self._opened.get(words, (None, None))
            if value is None or version != words._version:  # of a state that was loaded
                value = opened(words, self._key_of(entry["step"], entry["slot"], name), kind)
            values[name] = value.to(devices[name])
        return values

    def _key_of(self, step: int, slot: int, name: str) -> Key:
        """Of one tensor of memory: one stream for two of them would give their difference."""
        return fold_in(self.key, "correlated memory", step, slot, name)

    def _state(
        self, step: int, shapes: dict[str, Any], bound: float | None, memory: list[State]
    ) -> State:
        return {
            "step": step,
            "shapes": shapes,
            "bound": bound,
            "memory": memory,
            "run": self._run(),
            "format": FORMAT,
        }

    def _run(self) -> str:
        """Tells runs apart and nothing about the key."""
        multiplier = float(self.noise_multiplier).hex()
        run = fold_in(self.key, "correlated run", multiplier, repr(self.strategy))
        return run.secret_bytes.hex()[:32]

    def _require_own(self, state: State) -> None:
        expected = 0
        if self.noise_multiplier > 0 and state.get("bound"):
            match self.strategy:
                case Toeplitz():
                    expected = min(state["step"], self.strategy.bands - 1)
                case Buffered() if state["step"] > 0:
                    expected = len(self.strategy.decays)
        require_same_run(state, self._run(), expected)

    def _checked(self, summed: Summed, state: State) -> float:
        """The bound, where all is as it was in the steps before; nothing is released if not."""
        require_sum("CorrelatedNoise", summed)
        self._require_own(state)
        bound = float(summed.bound)
        shapes = {name: tuple(value.shape) for name, value in summed.values.items()}
        before = {name: tuple(shape) for name, shape in state["shapes"].items()}
        for what, got, expected in (
            ("parameters", shapes, before),
            ("bound", bound, bound if state["bound"] is None else state["bound"]),
        ):
            require(
                got == expected,
                "CorrelatedNoise",
                f"the {what} of the steps before: {expected}",
                got,
                "earlier noise is in their units: begin a new run with init for others",
            )
        require(
            0 <= bound < math.inf or self.noise_multiplier == 0,
            "CorrelatedNoise",
            "a sum with a finite L2 bound",
            bound,
            "clip with a finite max_norm, or set noise_multiplier=0 to train without privacy",
        )
        require(
            state["step"] < self.strategy.steps,
            "CorrelatedNoise",
            f"at most {self.strategy.steps} steps, those of the strategy",
            state["step"] + 1,
            "make the strategy for the whole run: its sensitivity grows with the steps",
        )
        return bound
