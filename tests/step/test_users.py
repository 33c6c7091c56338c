"""One user is one unit: clipped, counted once, and missed by no more than the noise hides."""

import math

import pytest
import torch

import dpfunc as dp
from dpfunc import accounting

KEY = dp.key(2)
CLIP = dp.Clip(0.5)


def updates_of(users, dtype=torch.float32):
    shapes = {"w": (3, 2), "b": (3,)}
    return {
        name: dp.normal(dp.fold_in(dp.key(1), name), (users, *shape)).to(dtype)
        for name, shape in shapes.items()
    }


def release(updates, *, sigma=0.0, clip=CLIP, expected_users=4.0, state=None):
    noise = dp.GaussianNoise(sigma, key=KEY)
    state = state or {"clip": clip.init(), "noise": noise.init({})}
    return dp.release_users(
        updates, clip=clip, noise=noise, state=state, expected_users=expected_users
    )


def flat(tensors):
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def by_the_books(updates, expected_users=4.0):
    total = 0
    for user in range(len(updates["w"])):
        own = flat({name: update[user].double() for name, update in updates.items()})
        total = total + own * min(1.0, 0.5 / float(own.norm()))
    return total / expected_users


@pytest.mark.parametrize("users", [1, 5, 40])
def test_the_mean_is_that_of_clipped_updates_over_a_constant(users):
    updates = updates_of(users)
    mean, _ = release(updates)
    torch.testing.assert_close(flat(mean).double(), by_the_books(updates), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bad", [1e10, math.nan, math.inf, 0.0])
def test_one_user_more_moves_it_by_at_most_the_bound(bad):
    updates = updates_of(6)
    more = {n: torch.cat([u, torch.full_like(u[:1], bad)]) for n, u in updates.items()}
    moved = flat(release(more)[0]).double() - flat(release(updates)[0]).double()
    assert float(moved.norm()) <= 0.5 / 4 * (1 + 2.0**-10)
    assert (float(moved.norm()) > 0.12) == (bad == 1e10)


def test_nobody_answered():
    mean, state = release(updates_of(0), sigma=1.0)
    assert (flat(mean) != 0).any()
    assert flat(mean).isfinite().all()
    assert state["noise"]["step"] == 1


def test_rounds_have_fresh_noise_and_the_accountant_counts_them():
    updates, state, seen = updates_of(4), None, []
    for _ in range(3):
        mean, state = release(updates, sigma=1.0, state=state)
        seen.append(flat(mean))
    assert not (seen[0] == seen[1]).any()
    event = dp.GaussianNoise(1.0, key=KEY).event(state["noise"], sample_rate=0.1)
    assert event == accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.1, steps=3)


def test_half_precision_comes_back_as_float32():
    mean, _ = release(updates_of(3, torch.bfloat16))
    assert mean["w"].dtype == torch.float32


def test_wrong_arguments():
    with pytest.raises(ValueError, match="release_users: expected a finite expected_users > 0"):
        release(updates_of(2), expected_users=0)
    with pytest.raises(TypeError, match="release_users: expected updates as"):
        release([updates_of(2)])
    with pytest.raises(ValueError, match="batch: expected at least one tensor"):
        release({"w": torch.ones(2, 3), "b": torch.ones(3, 3)})


def test_a_rule_that_learns_of_the_users_is_refused():
    """The event of the noise would say nothing about the count that such a rule asks for."""
    learning = dp.AdaptiveClip(1.0, count_noise=0.1, expected_batch_size=4, key=KEY)
    with pytest.raises(ValueError, match="release_users: expected a clip rule that learns nothing"):
        release(updates_of(4), clip=learning)

    class Silent(dp.Clip):
        def update(self, norms, mask, state):
            return {"norm": float(next(iter(norms.values())).max())}

    with pytest.raises(TypeError, match="expected a clip rule with a query_multiplier"):
        release(updates_of(4), clip=Silent(1.0))


def test_federated_averaging_learns():
    """Users drawn anew in each round train on their own records, and the server never sees them."""
    true = dp.normal(dp.key(4), (6,))
    x = dp.normal(dp.key(5), (60, 20, 6))
    y = x @ true
    params, noise = {"w": torch.zeros(6)}, dp.GaussianNoise(0.3, key=KEY)
    state = {"clip": {}, "noise": noise.init({})}
    for step in range(30):
        drawn, _ = dp.sampling.poisson(KEY, step, size=60, rate=0.5)
        sent = []
        for user in drawn.tolist():
            w = params["w"]
            for _ in range(3):
                w = w - 0.05 * x[user].T @ (x[user] @ w - y[user]) / 20
            sent.append(w - params["w"])
        updates = {"w": torch.stack(sent) if sent else torch.zeros(0, 6)}
        mean, state = dp.release_users(
            updates, clip=dp.Clip(1.0), noise=noise, state=state, expected_users=30
        )
        params = {"w": params["w"] + mean["w"]}
    assert float((params["w"] - true).norm()) < 0.2 * float(true.norm())


def test_a_rule_that_learns_is_refused_as_no_event_would_count_it():
    clip = dp.AdaptiveClip(1.0, count_noise=0.1, expected_batch_size=4, key=KEY)
    with pytest.raises(ValueError, match="release_users: expected a clip rule that learns nothing"):
        release(updates_of(3), sigma=1.0, clip=clip)


def test_a_rule_that_learns_without_telling_is_refused():
    class Spy:
        def init(self):
            return {"most": 0.0}

        def weights(self, norms, state):
            return CLIP.weights(norms, {})

        def update(self, norms, mask, state):
            return {"most": max(float(norm.max()) for norm in norms.values())}

    with pytest.raises(TypeError, match="query_multiplier"):
        release(updates_of(3), sigma=1.0, clip=Spy())
