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


def rounds_for(*, sampler=None, rate=0.1, users=4.0, **options):
    clip = dp.AdaptiveClip(1.0, count_noise=2.0, expected_batch_size=users, key=KEY)
    noise = dp.GaussianNoise(1.0, key=KEY)
    return dp.UserRounds(
        **{"clip": clip, "noise": noise, "expected_users": users, "sampler": sampler, **options}
    )


def test_what_a_rule_learns_of_the_users_is_paid_for():
    rounds = rounds_for()
    state = rounds.init({})
    for _ in range(3):
        _, state = rounds.release(updates_of(4), state)
    event = rounds.event(state, sample_rate=0.1)
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=rounds.clip,
        noise=rounds.noise,
        expected_batch_size=4,
    )
    assert event == private.event(state, sample_rate=0.1)
    alone = rounds.noise.event(state["noise"], sample_rate=0.1)
    assert accounting.epsilon(event, delta=1e-5) > accounting.epsilon(alone, delta=1e-5) * 1.01
    assert state["clip"]["step"] == 3
    assert state["clip"]["norm"] != 1.0
    assert rounds.resume(state, key=KEY) == state
    assert rounds.resume(state, key=dp.key(5)) != state
    with pytest.raises(ValueError, match="a clip rule with a query_multiplier of inf"):
        rounds_for(clip=dp.Clip(1.0)).resume(state, key=KEY)


def test_one_user_more_moves_a_learning_round_as_far_as_is_paid_for():
    """Of mean and count: the bound of the rule, and one half of the query's two."""
    rounds = rounds_for(noise=dp.GaussianNoise(0.0, key=KEY))
    updates = updates_of(6)
    state = rounds.init({})
    for size in (0.1, 1.0, 1e6):
        more = {n: torch.cat([u, size * torch.ones_like(u[:1])]) for n, u in updates.items()}
        (one, after), (other, later) = (rounds.release(u, state) for u in (updates, more))
        assert float((flat(one) - flat(other)).double().norm()) <= (1 + 2.0**-10) / 4
        moved = math.log(later["clip"]["norm"] / after["clip"]["norm"])
        assert abs(moved) <= 0.2 / (2 * 4) * (1 + 1e-9)


def test_rounds_of_a_sampler_of_users_with_plain_and_correlated_noise():
    sampler = dp.sampling.CyclicPoisson(size=100, rate=0.2, cycle=2)
    noise = dp.GaussianNoise(1.0, key=KEY)
    users = sampler.expected_batch_size
    rounds = dp.UserRounds(clip=CLIP, noise=noise, expected_users=users, sampler=sampler)
    _, state = rounds.release(updates_of(4), rounds.init({}))
    assert rounds.event(state) == sampler.event(1.0, steps=1)
    banded = dp.correlated.banded(steps=8, bands=2)
    noise = dp.CorrelatedNoise(2.0, banded, key=KEY)
    rounds = dp.UserRounds(clip=CLIP, noise=noise, expected_users=users, sampler=sampler)
    _, state = rounds.release(
        updates_of(4), rounds.init({"w": torch.zeros(3, 2), "b": torch.zeros(3)})
    )
    assert rounds.event(state) == sampler.event(2.0, steps=1, strategy=banded)
    with pytest.raises(ValueError, match="UserRounds: expected expected_users="):
        dp.UserRounds(clip=CLIP, noise=noise, expected_users=3.0, sampler=sampler)


def test_wrong_rounds():
    with pytest.raises(ValueError, match="UserRounds: expected a clip rule with the key of the no"):
        rounds_for(noise=dp.GaussianNoise(1.0, key=dp.key(9)))
    with pytest.raises(ValueError, match=r"UserRounds: expected a clip rule for 5\.0 users"):
        rounds_for(clip=rounds_for().clip, expected_users=5.0)
    with pytest.raises(ValueError, match="UserRounds: expected a finite expected_users > 0"):
        rounds_for(clip=CLIP, expected_users=0)
