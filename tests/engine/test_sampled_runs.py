"""An engine with a sampler and a strategy: noise, samples and event are of one run."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc import accounting, correlated, sampling

KEY, SIZE, STEPS = dp.key(11), 48, 12
X = dp.normal(dp.key(1), (SIZE, 3))
DATA = TensorDataset(X, torch.arange(SIZE) % 2)
CYCLIC = sampling.CyclicPoisson(size=SIZE, rate=0.5, cycle=4)
BANDED = correlated.banded(steps=STEPS, bands=4)
FRACTIONAL = correlated.fractional(steps=STEPS, bands=3, exponent=0.8)
PAIRS = {
    "cyclic, bands": (CYCLIC, BANDED, "add_or_remove"),
    "cyclic": (CYCLIC, None, "add_or_remove"),
    "bins, bands": (sampling.BallsInBins(size=SIZE, bins=6), BANDED, "add_or_remove"),
    "bins, fractional": (sampling.BallsInBins(size=SIZE, bins=6), FRACTIONAL, "add_or_remove"),
    "shuffled, fractional": (sampling.Shuffled(size=SIZE, batch_size=8), FRACTIONAL, "zero_out"),
    "shuffled": (sampling.Shuffled(size=SIZE, batch_size=10), None, "replace_one"),
    "fixed size": (sampling.FixedSize(size=SIZE, batch_size=6), None, "replace_one"),
    "allocation": (sampling.Allocation(size=SIZE, steps=6), None, "add_or_remove"),
}


def engine_of(pair="cyclic, bands", *, key=KEY, **options):
    sampler, strategy, relation = PAIRS[pair]
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    options = {"max_grad_norm": 0.5, "delta": 1e-3, "noise_multiplier": 1.5} | options
    if strategy is None and "steps" not in options:
        options["steps"] = STEPS
    chosen = {"sampler": sampler, "strategy": strategy, "relation": relation} | options
    return dp.PrivacyEngine(model, key=key, **chosen)


def train(engine, steps, seen=None):
    """So many steps of an ordinary loop, over as many epochs as it takes."""
    optimizer = torch.optim.SGD(engine.model.parameters(), lr=0.1)
    engine.attach(optimizer)
    last = engine.steps_taken + steps
    while engine.steps_taken < last:
        for x, y in engine.loader(DATA):
            optimizer.zero_grad()
            F.cross_entropy(engine.model(x), y).backward()
            optimizer.step()
            if seen is not None:
                seen.append(engine.model.weight.grad.clone())
            if engine.steps_taken == last:
                break
    engine.detach()
    return engine


def by_private_grad(pair, steps, clip, noise_multiplier=1.5):
    """The gradients of the same run by `PrivateGrad`, at the parameters of the engine's run."""
    sampler, strategy, _ = PAIRS[pair]
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    noise = (
        dp.GaussianNoise(noise_multiplier, key=KEY)
        if strategy is None
        else dp.CorrelatedNoise(noise_multiplier, strategy, key=KEY)
    )

    def loss_fn(params, x, y):
        return F.cross_entropy(torch.func.functional_call(model, params, (x[None],)), y[None])

    private = dp.PrivateGrad(
        loss_fn,
        clip=clip,
        noise=noise,
        sampler=sampler,
        expected_batch_size=sampler.expected_batch_size,
    )
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    state, found = private.init(params), []
    for step in range(steps):
        indices, mask = sampler.batch(KEY, step)
        batch = tuple(tensor[indices] for tensor in DATA.tensors)
        grads, state, _ = private.update(params, batch, state, mask)
        found.append(grads["weight"])
        params = {name: p - 0.1 * grads[name] for name, p in params.items()}
    return found, private.event(state)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_engine_releases_what_private_grad_does_and_counts_the_samplers_event(pair):
    seen = []
    engine = train(engine_of(pair), 7, seen)
    expected, event = by_private_grad(pair, 7, dp.Clip(0.5))
    for ours, theirs in zip(seen, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * (1 + theirs.norm())
    assert engine.event() == event
    if pair not in ("fixed size", "allocation"):  # whose accounting takes many seconds
        spent = accounting.epsilon_bounds(event, delta=1e-3, relation=PAIRS[pair][2])
        assert spent.lower <= engine.epsilon() <= spent.upper * (1 + 1e-4)
    assert engine.remaining_steps() == STEPS - 7


def test_a_budget_finds_the_noise_and_ends_with_the_strategy():
    engine = engine_of(noise_multiplier=None, target_epsilon=2.0)
    s = correlated.noise_multiplier(target_epsilon=2.0, delta=1e-3, sampler=CYCLIC, strategy=BANDED)
    assert engine.noise_multiplier == s
    train(engine, STEPS)
    assert engine.remaining_steps() == 0
    assert engine.epsilon() <= 2.0 < engine.budget.epsilon(STEPS) * 1.001
    assert engine.event() == accounting.OneRecord(
        accounting.Poisson(0.5, accounting.Gaussian(s))
    ) * math.ceil(STEPS / 4)
    with pytest.raises(dp.BudgetSpentError):
        train(engine, 1)


def test_with_noise_and_a_budget_the_run_stops_where_its_own_event_says():
    """Steps of a cycle that is begun are paid for: the last of them come free."""
    engine = engine_of("cyclic", steps=None, noise_multiplier=1.0, target_epsilon=2.0)
    block = accounting.OneRecord(accounting.Poisson(0.5, accounting.Gaussian(1.0)))
    most = int(engine.remaining_steps())
    assert most % CYCLIC.cycle == 0
    assert accounting.epsilon(block * (most // 4), delta=1e-3) <= 2.0
    assert accounting.epsilon(block * (most // 4 + 1), delta=1e-3) > 2.0


def test_a_rule_that_learns_is_paid_for_out_of_the_budget():
    clip = dp.AdaptiveClip(0.5, count_noise=3.0, expected_batch_size=6, key=KEY)
    engine = engine_of(max_grad_norm=None, clip=clip, noise_multiplier=None, target_epsilon=2.0)
    joint = correlated.noise_multiplier(
        target_epsilon=2.0, delta=1e-3, sampler=CYCLIC, strategy=BANDED
    )
    assert engine.noise_multiplier == pytest.approx(clip.noise_left(joint), rel=1e-9)
    assert math.isnan(engine.clipped_share_estimate())
    seen = []
    train(engine, STEPS, seen)
    expected, event = by_private_grad("cyclic, bands", STEPS, clip, engine.noise_multiplier)
    for ours, theirs in zip(seen, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * (1 + theirs.norm())
    assert engine.event() == event
    assert engine.epsilon() <= 2.0
    assert accounting.epsilon(event, delta=1e-3) <= 2.0
    assert engine.remaining_steps() == 0
    assert -1 < engine.clipped_share_estimate() < 2


def test_the_budget_counts_what_the_rule_learns():
    clip = dp.AdaptiveClip(0.5, count_noise=1.0, expected_batch_size=6, key=KEY)
    learning = engine_of(max_grad_norm=None, clip=clip)
    assert learning.budget.epsilon(5) > engine_of().budget.epsilon(5)
    event = CYCLIC.event((1.5**-2 + 2.0**-2) ** -0.5, steps=5, strategy=BANDED)
    assert learning.budget.epsilon(5) == pytest.approx(accounting.epsilon(event, delta=1e-3), 1e-4)


@pytest.mark.parametrize("count_noise", [30.0, None])
def test_what_a_rule_has_learned_is_not_forgotten_when_the_run_goes_on(count_noise):
    """All steps are counted by the rule of now: with another one the first would be too cheap."""

    def rule(noise):
        if noise is None:
            return dp.Clip(1.0)  # the bound of a rule that learns
        return dp.AdaptiveClip(0.5, count_noise=noise, expected_batch_size=6, key=KEY)

    state = train(engine_of(max_grad_norm=None, clip=rule(1.0)), 2).state_dict()
    engine_of(max_grad_norm=None, clip=rule(1.0)).load_state_dict(state)
    with pytest.raises(ValueError, match="a clip rule with a query_multiplier of"):
        engine_of(max_grad_norm=None, clip=rule(count_noise)).load_state_dict(state)


def test_what_was_clipped_is_told_by_the_norm_of_a_rule_that_learns():
    clip = dp.AdaptiveClip(1e-3, count_noise=3.0, expected_batch_size=6, key=KEY)
    engine = train(engine_of(max_grad_norm=None, clip=clip), 1)
    assert engine.clipped_share() == 1
    wide = dp.AdaptiveClip(1e3, count_noise=3.0, expected_batch_size=6, key=KEY)
    assert train(engine_of(max_grad_norm=None, clip=wide), 1).clipped_share() == 0


@pytest.mark.parametrize("pair", ["cyclic, bands", "bins, fractional", "shuffled"])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(pair, tmp_path):
    whole = []
    train(engine_of(pair), 9, whole)
    first, half = engine_of(pair), []
    train(first, 5, half)
    torch.save([first.state_dict(), first.model.state_dict()], tmp_path / "saved")
    state, weights = torch.load(tmp_path / "saved", weights_only=True)
    second = engine_of(pair)
    second.load_state_dict(state)
    second.model.load_state_dict(weights)
    train(second, 4, half)
    assert all(torch.equal(a, b) for a, b in zip(whole, half, strict=True))
    assert second.steps_taken == 9


def test_a_run_does_not_go_on_with_other_samples_or_other_noise():
    state = train(engine_of(), 2).state_dict()
    other = sampling.CyclicPoisson(size=SIZE, rate=0.4, cycle=4)
    with pytest.raises(ValueError, match="load_state_dict: expected a run with the samples of"):
        engine_of(sampler=other).load_state_dict(state)
    longer = correlated.banded(steps=2 * STEPS, bands=4)
    for wrong in ({"strategy": longer}, {"noise_multiplier": 1.6}, {"key": dp.key(12)}):
        with pytest.raises(ValueError, match="expected a state of this key, noise multiplier"):
            engine_of(**wrong).load_state_dict(state)


POISSON = sampling.Poisson(size=SIZE, rate=0.1)
REFUSED = {
    "no theorem is known": {"sampler": POISSON},
    "at most 3 bands, the cycle": {"sampler": sampling.CyclicPoisson(size=SIZE, rate=0.5, cycle=3)},
    "at most 12 steps, those of the strategy": {"steps": STEPS + 1},
    "a record more shifts the others": {
        "sampler": sampling.Shuffled(size=SIZE, batch_size=8),
        "strategy": FRACTIONAL,
    },
    "neither data nor sizes beside a sampler": {"sample_size": SIZE},
    "a sampler of dpfunc.sampling": {"sampler": 3},
    "a clip rule with the key of the noise": {
        "max_grad_norm": None,
        "clip": dp.AdaptiveClip(1.0, count_noise=9.0, expected_batch_size=6, key=dp.key(2)),
    },
    "cyclic Poisson samples for a clip rule": {
        "sampler": sampling.BallsInBins(size=SIZE, bins=6),
        "max_grad_norm": None,
        "clip": dp.AdaptiveClip(1.0, count_noise=9.0, expected_batch_size=6, key=KEY),
    },
    "independent noise and a clip rule that learns nothing beside a group": {"group": object()},
    "a query_multiplier above": {
        "noise_multiplier": None,
        "target_epsilon": 0.1,
        "max_grad_norm": None,
        "clip": dp.AdaptiveClip(1.0, count_noise=0.3, expected_batch_size=6, key=KEY),
    },
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_nobody_has_proven_is_refused_when_the_engine_is_made(said):
    with pytest.raises((ValueError, TypeError), match=said) as refused:
        engine_of(**REFUSED[said])
    assert not isinstance(refused.value, NotImplementedError)


def test_a_group_of_records_that_take_turns_has_no_event():
    """Two records in two groups of the cycle: their blocks of bands overlap."""
    event = CYCLIC.event(2.0, steps=STEPS, strategy=BANDED)
    with pytest.raises(ValueError, match="no theorem is known for groups of records that take"):
        accounting.epsilon(accounting.Group(2, event), delta=1e-3)
    assert accounting.epsilon(accounting.Group(1, event), delta=1e-3) > 0
    plain = sampling.CyclicPoisson(size=SIZE, rate=0.5, cycle=1).event(2.0, steps=STEPS)
    assert accounting.epsilon(accounting.Group(2, plain), delta=1e-3) > 0
    assert accounting.from_json(accounting.to_json(event)) == event


def test_two_records_that_take_turns_cost_more_than_their_blocks_apart():
    """Bands reach over the turn of the other record; sampled always, computed exactly."""
    strategy = correlated.Toeplitz(2, (1.0, 1.0))
    cyclic = sampling.CyclicPoisson(size=10, rate=1.0, cycle=2)
    assert cyclic.event(1.0, steps=2, strategy=strategy) is not None
    # Records of groups 0 and 1 shift C S by C (1, 1) = (1, 2); z has the norm of a column, sqrt(2).
    true = accounting.Gaussian(math.sqrt(2) / math.sqrt(1 + 4))
    apart = accounting.Gaussian(1.0) * 2
    assert accounting.delta(true, epsilon=1.0) > accounting.delta(apart, epsilon=1.0)
