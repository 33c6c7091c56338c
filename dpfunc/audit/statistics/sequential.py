"""Trials one after the other, stopped whenever one likes: a bet against the claim.

In every trial a fair coin decides whether the canary is in; the guess, or abstention, may depend on
this trial's output and on all that is past. For each tangent ``P[in-side] <= e**eps P[out-side] +
delta`` of the claim, and each direction of the guess, a gambler bets a share lam of the capital:

    E = 1 + lam (1{in, guessed in} - e**eps 1{out, guessed in} - delta / 2)

has mean at most 1 if the claim holds and lam is fixed before the trial, for the coin is fair. So
the capital exceeds 1 / alpha, ever, with probability alpha at most (Ville's inequality), and so
does the mean of all gamblers' capitals. ``delta / 2`` is paid in every trial, abstention included:
a mechanism that gives the record away with probability delta, to one who abstains otherwise, would
beat a game in which abstaining costs nothing. Cf. Gonzalez et al. 2025 (arXiv:2509.07055).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting import Event
from dpfunc.accounting.domination.release import Relation
from dpfunc.audit.statistics.claims import claim_of
from dpfunc.audit.statistics.scores import Array
from dpfunc.checks import require

Guess = Literal["in", "out"] | None

_MOST_SHARE = 0.5  # of the largest bet that cannot lose everything


@dataclass(frozen=True)
class SequentialState:
    """What is known after some trials; ``p_value`` holds at whichever trial one stops.

    Each gambler's logarithm of the capital, and the sums and sums of squares of what was won.
    """

    trials: int
    p_value: Any
    log_capital: Array
    won: Array
    squares: Array


@dataclass(frozen=True)
class Sequential:
    """A test of ``event``, trial by trial, that may be stopped and looked at at any time.

    Guarantee: if the mechanism keeps the claim and each trial's coin is fair and independent of the
    past, ``P[p_value <= alpha at any time] <= alpha``.

    >>> from dpfunc.accounting import PureDP
    >>> test = Sequential(PureDP(0.5))
    >>> state = test.init()
    >>> for trial in range(100):  # every guess is right
    ...     is_in = trial % 3 == 0
    ...     state = test.update(is_in, "in" if is_in else "out", state)
    >>> state.p_value < 1e-6
    True
    """

    event: Event
    relation: Relation = "add_or_remove"

    def __post_init__(self) -> None:
        claim = claim_of("Sequential", self.event, self.relation)
        kept = [(e, d) for e, d in zip(claim.log_slopes, claim.offsets, strict=True) if e >= 0]
        log_slopes, deltas = (np.array(column * 2) for column in map(list, zip(*kept, strict=True)))
        object.__setattr__(self, "_slopes", np.exp(log_slopes))
        object.__setattr__(self, "_deltas", deltas)

    def init(self) -> SequentialState:
        """Before the first trial."""
        nothing = np.zeros(len(self._slopes))
        return SequentialState(0, 1.0, nothing, nothing, nothing)

    def update(self, member: bool, guess: Guess, state: SequentialState) -> SequentialState:
        """After one more trial: whether the canary was in, and what was guessed (None: nothing).

        Call it for every trial whose output was seen, also where nothing was guessed.
        """
        require(
            guess in ("in", "out", None),
            "Sequential",
            'a guess "in", "out" or None',
            guess,
            "None is for trials without a guess",
        )
        require(
            isinstance(member, bool | np.bool_),
            "Sequential",
            "True or False for member",
            member,
            "say whether the canary was in",
        )
        return self.after(
            np.array(member), np.array(guess == "in"), np.array(guess == "out"), state
        )

    def after(
        self,
        member: NDArray[np.bool_],
        guessed_in: NDArray[np.bool_],
        guessed_out: NDArray[np.bool_],
        state: SequentialState,
    ) -> SequentialState:
        """`update` of many independent tests at once: arrays of one shape, one entry a test."""
        right = np.stack([guessed_in & member, guessed_out & ~member], axis=-1)
        wrong = np.stack([guessed_in & ~member, guessed_out & member], axis=-1)
        half = len(self._slopes) // 2
        right, wrong = np.repeat(right, half, axis=-1), np.repeat(wrong, half, axis=-1)
        gain = right - self._slopes * wrong - self._deltas / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = np.where(state.squares > 0, state.won / state.squares, 0.0)
        bet = np.clip(wanted, 0.0, _MOST_SHARE / (self._slopes + self._deltas / 2))
        capital = state.log_capital + np.log1p(bet * gain)
        top = capital.max(-1)
        mean = top + np.log(np.exp(capital - top[..., None]).mean(-1))
        p = np.minimum(state.p_value, np.exp(np.minimum(-mean, 0.0)))
        return SequentialState(
            state.trials + 1,
            float(p) if np.ndim(p) == 0 else p,
            capital,
            state.won + gain,
            state.squares + gain * gain,
        )

    _slopes: Any = None
    _deltas: Any = None
