"""`release_users`: one private mean of what users send, each of them one unit of privacy."""

import math
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.clipping.weights import divided, masked
from dpfunc.persample.batches.batch import batch_size
from dpfunc.persample.factors.reduce import leaf_norms, weighted_sum
from dpfunc.step.microbatch import Part, in_microbatches
from dpfunc.step.sampled import require_learns_nothing, require_told
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
    | a clip rule that learns, such as `AdaptiveClip` | ValueError: no event counts what it learns |

    >>> import torch, dpfunc as dp
    >>> clip, noise = dp.Clip(1.0), dp.GaussianNoise(0.0, key=dp.key())
    >>> state = {"clip": clip.init(), "noise": noise.init({})}
    >>> updates = {"w": torch.tensor([[3.0, 4.0], [0.0, 0.5]])}
    >>> release_users(updates, clip=clip, noise=noise, state=state, expected_users=2)[0]
    {'w': tensor([0.3000, 0.6500])}
    """
    require(
        is_real(expected_users) and 0 < expected_users < math.inf,
        "release_users",
        "a finite expected_users > 0",
        expected_users,
        "pass the sampling rate times the number of all users, a constant of the run",
    )
    require_learns_nothing(
        "release_users",
        clip,
        "use dpfunc.Clip: what the rule learns of the users would be paid for by nobody",
    )
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
