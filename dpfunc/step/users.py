"""`release_users`: one private mean of what users send, each of them one unit of privacy.

`UserRounds` is the same for many rounds, with one source of what they cost.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.checks import is_real, require
from dpfunc.clipping.weights import divided, masked
from dpfunc.naming import in_name_of
from dpfunc.persample.batches.batch import batch_size
from dpfunc.persample.factors.reduce import leaf_norms, weighted_sum
from dpfunc.random.keys import Key
from dpfunc.sampling.scheme import Sampler
from dpfunc.step.microbatch import Part, in_microbatches
from dpfunc.step.sampled import (
    event_of,
    require_branch,
    require_learns_nothing,
    require_same_query,
    require_theorem,
    require_told,
)
from dpfunc.types import ClipRule, NoiseMechanism, State, Tensors


def release_users(
    updates: Tensors,
    *,
    clip: ClipRule,
    noise: NoiseMechanism,
    state: State,
    expected_users: float,
) -> tuple[Tensors, State]:
    """The private mean of the users' updates: ``(mean, state)``. DP-FedAvg on the server.

    ``mean = (sum_u weight_u * update_u + noise) / expected_users``: a round of federated learning
    (McMahan, Ramage, Talwar and Zhang 2018, arXiv:1710.06963, Algorithm 1 with the fixed divisor),
    where ``update_u`` is what training on all records of user u has changed. Add the mean to the
    parameters, or give its negative to an optimiser.

    Guarantee: with `GaussianNoise` of noise multiplier sigma and users drawn by `sampling.poisson`
    at rate q, T rounds are as private as
    ``accounting.dp_sgd(noise_multiplier=sigma, sample_rate=q, steps=T)`` under adding or removing
    one *user* with all records. ``clip`` bounds what a user adds, whatever the update is; a user
    who fails or stays silent adds zero, as one who was not drawn. ``expected_users`` is a constant:
    q times the number of all users, not how many answered. Updates are clipped and added one by
    one, in float64: how far the float sum can move is proven (docs/randomness.md). The server sees
    the updates as they are.

    ``updates``: ``{name: [users, *shape]}``, one row for each user who answered, once each.
    ``state``: ``{"clip": clip.init(), "noise": noise.init({})}`` at first, then what came back;
    ``noise.event(state["noise"], sample_rate=q)`` tells the accountant. ``mean``: of the dtype of
    the updates, at least float32.

    | case | result |
    |---|---|
    | nobody answered: ``[0, *shape]`` | noise alone over ``expected_users``; take the round |
    | an update with a NaN or infinite number | adds zero |
    | names with other numbers of users | ValueError |
    | several processes | release on one of them: two sums of one key and step have one noise |
    | a clip rule that learns, such as `AdaptiveClip` | ValueError: use `UserRounds` |

    >>> import torch, dpfunc as dp
    >>> clip, noise = dp.Clip(1.0), dp.GaussianNoise(0.0, key=dp.key())
    >>> state = {"clip": clip.init(), "noise": noise.init({})}
    >>> updates = {"w": torch.tensor([[3.0, 4.0], [0.0, 0.5]])}
    >>> release_users(updates, clip=clip, noise=noise, state=state, expected_users=2)[0]
    {'w': tensor([0.3000, 0.6500])}
    """
    _require_expected("release_users", expected_users)
    require_learns_nothing(
        "release_users",
        clip,
        "use dpfunc.UserRounds, whose event counts what the rule learns of the users",
    )
    return _released(updates, clip, noise, state, expected_users)


@dataclass(frozen=True)
class UserRounds:
    """`release_users` for the rounds of a run, and what they cost together.

    ``clip``: also a rule that learns, such as `AdaptiveClip`, with the key of the noise: its means
    come in units of its norm, ``state["clip"]["norm"]``. ``noise``: `GaussianNoise`, or
    `CorrelatedNoise` with a ``sampler`` of the users that has a theorem for it, such as
    `sampling.CyclicPoisson`. ``expected_users``: a constant, that of the sampler.

    Guarantee: ``event(state)`` is what `PrivateGrad.event` says of the same clip rule, noise and
    sampler, under adding or removing one *user*: here a user's update is what a sample's gradient
    is there. ValueError at construction where no theorem is known.

    >>> import torch, dpfunc as dp
    >>> key = dp.key()
    >>> clip = dp.AdaptiveClip(1.0, count_noise=5.0, expected_batch_size=100, key=key)
    >>> noise = dp.GaussianNoise(clip.noise_left(1.0), key=key)
    >>> rounds = UserRounds(clip=clip, noise=noise, expected_users=100)
    >>> state = rounds.init({"w": torch.zeros(3)})
    >>> mean, state = rounds.release({"w": torch.ones(90, 3)}, state)
    >>> round(dp.accounting.epsilon(rounds.event(state, sample_rate=0.1), delta=1e-5), 2)
    1.68
    """

    _: KW_ONLY
    clip: ClipRule
    noise: NoiseMechanism
    expected_users: float
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        _require_expected("UserRounds", self.expected_users)
        with in_name_of("UserRounds", expected_batch_size="expected_users"):
            require_theorem(self.sampler, self.noise, self.clip, self.expected_users)
        own = getattr(self.clip, "expected_batch_size", self.expected_users)
        require(
            math.isclose(own, self.expected_users, rel_tol=1e-6),
            "UserRounds",
            f"a clip rule for {self.expected_users} users",
            own,
            "give both the expected number of users in a round",
        )

    def init(self, params: Tensors) -> State:
        """The state before the first round."""
        return {"clip": self.clip.init(), "noise": self.noise.init(params)}

    def release(self, updates: Tensors, state: State) -> tuple[Tensors, State]:
        """One round: ``(mean, state)``, as by `release_users`."""
        return _released(updates, self.clip, self.noise, state, self.expected_users)

    def event(self, state: State, *, sample_rate: float | None = None) -> Event:
        """What the rounds up to ``state`` released: ``sample_rate`` of users, or the sampler's."""
        return event_of(self.sampler, self.noise, self.clip, state["noise"], sample_rate)

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from: see `PrivateGrad.resume`."""
        require_branch(self.sampler, is_own=key == getattr(self.noise, "key", None))
        require_same_query(self.clip, state["clip"])
        clip = self.clip.resume if hasattr(self.clip, "resume") else None
        clip_state = state["clip"] if clip is None else clip(state["clip"], key=key)
        return {"clip": clip_state, "noise": self.noise.resume(state["noise"], key=key)}


def _require_expected(subject: str, expected_users: object) -> None:
    require(
        is_real(expected_users) and 0 < expected_users < math.inf,
        subject,
        "a finite expected_users > 0",
        expected_users,
        "pass the sampling rate times the number of all users, a constant of the run",
    )


def _released(
    updates: Tensors, clip: ClipRule, noise: NoiseMechanism, state: State, expected_users: float
) -> tuple[Tensors, State]:
    require(
        isinstance(updates, dict) and len(updates) > 0,
        "release_users",
        "updates as {name: [users, *shape]}",
        type(updates).__name__,
        "stack what the users sent: torch.stack([update[name] for update in received])",
        error=TypeError,
    )

    def clipped_sum(
        _params: Tensors, args: tuple[Any, ...], clip_state: State, mask: Tensor
    ) -> Part:
        (own,) = args
        norms = leaf_norms(own)
        weights = divided(masked(clip.weights(norms, clip_state), mask), expected_users)
        return Part(weighted_sum(own, weights), norms, torch.zeros(len(mask)))

    users = batch_size((updates,))
    mask = torch.ones(users, dtype=torch.bool, device=next(iter(updates.values())).device)
    one_by_one = 1
    part = in_microbatches(clipped_sum, {}, (updates,), state["clip"], mask, one_by_one)
    clip_state = clip.update(part.norms, mask, state["clip"])
    require_told(clip, state["clip"], clip_state)
    add = getattr(noise, "add_", noise.add)  # in the memory of the sum
    noisy, noise_state = add(part.summed, state["noise"])
    mean = {
        name: noisy[name].to(torch.promote_types(update.dtype, torch.float32))
        for name, update in updates.items()
    }
    return mean, {"clip": clip_state, "noise": noise_state}
