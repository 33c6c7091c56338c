"""The best of K runs against all that finite pairs allow, and against values worked out before."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from dpfunc import accounting
from dpfunc.accounting import Gaussian, Pair, PrivateSelection, PureDP

REFERENCE = json.loads((Path(__file__).parent / "selection_reference.json").read_text())


def generating(x, gamma, shape):
    """``E[x**K]``."""
    inner = (1 - (1 - gamma) * x) / gamma
    if shape == 0:
        return np.log(inner * gamma) / np.log(gamma)
    return (inner**-shape - gamma**shape) / (1 - gamma**shape)


def released(p, ranking, gamma, shape):
    """The law of the best outcome: ``ranking`` lists outcomes from the worst to the best."""
    upto = np.cumsum(p[ranking])
    law = np.zeros(len(p))
    law[ranking] = np.diff(generating(np.minimum(upto, 1.0), gamma, shape), prepend=0.0)
    return law


def exact_delta(p, q, ranking, gamma, shape, epsilon):
    first, second = (released(np.array(x), ranking, gamma, shape) for x in (p, q))
    return np.maximum(first - math.exp(epsilon) * second, 0.0).sum()


def random_pair(rng, outcomes):
    """Asymmetric, with zeros now and then."""
    laws = rng.random((2, outcomes)) ** rng.choice([1, 4]) * (rng.random((2, outcomes)) < 0.85)
    laws[:, 0] += 1e-3
    return laws / laws.sum(1, keepdims=True)


def cases():
    yield (0.98721, 0.0, 0.01279), (0.50736, 0.48608, 0.00656), 3.0, 13.0, 3.363
    rng = np.random.default_rng(0)
    for _ in range(40):
        p, q = random_pair(rng, rng.integers(3, 6))
        shape = rng.choice([-0.95, -0.5, 0.0, 0.5, 1.0, 3.0])
        yield tuple(p), tuple(q), float(shape), float(rng.choice([1.5, 4, 13])), rng.random() * 4


@pytest.mark.parametrize(("relation", "swapped"), [("remove", False), ("add", True)])
def test_no_ranking_exceeds_the_bound(relation, swapped):
    for p, q, shape, mean, epsilon in cases():
        selection = PrivateSelection(Pair(p, q), mean, shape)
        bound = accounting.delta(selection, epsilon=epsilon, relation=relation)
        both = accounting.delta(selection, epsilon=epsilon)
        assert bound <= both * (1 + 1e-9)
        first, second = (q, p) if swapped else (p, q)
        for ranking in itertools.permutations(range(len(p))):
            found = exact_delta(first, second, list(ranking), selection.gamma, shape, epsilon)
            assert found <= bound * (1 + 1e-9) + 1e-12


def test_epsilon_is_where_delta_is():
    for p, q, shape, mean, _ in itertools.islice(cases(), 8):
        selection = PrivateSelection(Pair(p, q), mean, shape)
        for delta in (0.9, 0.3, 0.03, 1e-4):
            epsilon = accounting.epsilon(selection, delta=delta)
            if epsilon < math.inf:
                assert accounting.delta(selection, epsilon=epsilon) <= delta * (1 + 1e-6)


def test_what_is_attained_is_attained():
    """The lower end is below the best of all rankings, by chance included: then it is one run."""
    for p, q, shape, mean, epsilon in itertools.islice(cases(), 20):
        selection = PrivateSelection(Pair(p, q), mean, shape)
        bounds = accounting.delta_bounds(selection, epsilon=epsilon, relation="remove")
        rankings = itertools.permutations(range(len(p)))
        most = max(exact_delta(p, q, list(r), selection.gamma, shape, epsilon) for r in rankings)
        one_run = np.maximum(np.array(p) - math.exp(epsilon) * np.array(q), 0.0).sum()
        assert bounds.lower <= max(most, one_run) + 1e-9


def name(case):
    return f"{case['base']} {case['mean_runs']} {case.get('eta', 'poisson')}"


@pytest.mark.parametrize("case", REFERENCE["selection"], ids=name)
def test_noise_by_the_theorem(case):
    sigma = float(case["base"][9:-1])
    selection = PrivateSelection(Gaussian(sigma), case["mean_runs"], case["eta"])
    lower, upper = accounting.epsilon_bounds(selection, delta=case["delta"])
    assert upper == pytest.approx(case["upper"], abs=1e-5)
    assert 0.97 * case["attained"] <= lower <= case["attained"] + 1e-5 <= upper
    assert selection.gamma == pytest.approx(case["gamma"], abs=1e-6)


def test_training_runs_by_the_theorem():
    run = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    (case,) = [c for c in REFERENCE["selection_dp_sgd"] if c["mean_runs"] == 10 and c["eta"] == 1]
    found = accounting.epsilon(PrivateSelection(run, 10, 1), delta=1e-6)
    assert found == pytest.approx(case["upper"], abs=1e-5)
    assert found <= 3.16


@pytest.mark.nightly
@pytest.mark.parametrize("case", REFERENCE["selection_dp_sgd"], ids=name)
def test_all_training_runs_by_the_theorem(case):
    run = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    selection = PrivateSelection(run, case["mean_runs"], case["eta"])
    lower, upper = accounting.epsilon_bounds(selection, delta=case["delta"])
    assert upper == pytest.approx(case["upper"], abs=1e-5)
    assert 0.85 * upper < lower < upper


@pytest.mark.parametrize("case", REFERENCE["selection_poisson"], ids=name)
def test_a_poisson_number_of_runs(case):
    sigma = float(case["base"][9:-1])
    selection = PrivateSelection(Gaussian(sigma), case["mean_runs"], math.inf)
    lower, upper = accounting.epsilon_bounds(selection, delta=case["delta"])
    assert upper == pytest.approx(case["upper"], abs=1e-5)
    assert 0.9 * upper < lower


def test_of_many_poisson_runs_moments_know_more():
    selection = PrivateSelection(Gaussian(4.0), 10, math.inf)
    assert accounting.epsilon(selection, delta=1e-6) == pytest.approx(2.039, abs=1e-3)


def test_pure_runs_cost_three_times_one_in_the_limit():
    for mean, least in ((1e3, 1.45), (1e6, 1.4999)):
        selection = PrivateSelection(PureDP(0.5), mean, 1)
        assert least < accounting.epsilon(selection, delta=0.0) <= 1.5


def test_one_run_is_one_run():
    selection = PrivateSelection(Gaussian(2.0), 1, 1)
    one = accounting.epsilon(Gaussian(2.0), delta=1e-6)
    assert accounting.epsilon(selection, delta=1e-6) == pytest.approx(one, rel=1e-6)


def test_the_moments_are_those_of_papernot_and_steinke():
    """For composition and filters; at one delta they are far above the theorem."""
    (case,) = [c for c in REFERENCE["selection"] if name(c) == "Gaussian(2.0) 10 1.0"]
    both = PrivateSelection(Gaussian(2.0), 10, 1) + Gaussian(1e6)
    assert accounting.epsilon(both, delta=1e-6) == pytest.approx(case["rdp"], rel=2e-3)
    bounds = accounting.epsilon_bounds(both, delta=1e-6)
    assert bounds.engine == "renyi"
    assert bounds.lower == 0
    privacy = accounting.RenyiFilter(target_epsilon=5.0, delta=1e-6, order=8.0)
    assert privacy.allows(accounting.Compose(()), PrivateSelection(Gaussian(2.0), 10, 1))


def test_moments_are_above_what_rankings_have():
    rng = np.random.default_rng(1)
    for _ in range(10):
        p, q = rng.random((2, 4)) + 0.05
        p, q = p / p.sum(), q / q.sum()
        selection = PrivateSelection(Pair(tuple(p), tuple(q)), 4.0, 1.0)
        for order in (1.5, 4.0, 20.0):
            bound = accounting.rdp(selection, order=order)
            for ranking in itertools.permutations(range(4)):
                a, b = (released(x, list(ranking), selection.gamma, 1.0) for x in (p, q))
                found = math.log((a**order * b ** (1 - order)).sum()) / (order - 1)
                assert found <= bound + 1e-9


def test_the_ranking_counts_in_the_other_order():
    """A record that comes shows in an outcome that was next to impossible: ranked first."""
    with_it, without, mean, order = (0.9, 0.1), (1 - 1e-9, 1e-9), 100.0, 50.0
    geometric = PrivateSelection(Pair(with_it, without), mean, 1)
    a, b = (released(np.array(p), [0, 1], geometric.gamma, 1) for p in (without, with_it))
    moment = math.log((a**order * b ** (1 - order)).sum()) / (order - 1)
    assert moment <= accounting.rdp(geometric, order=order, relation="add")
    poisson = PrivateSelection(Pair(with_it, without), mean, math.inf)
    epsilon = accounting.epsilon(poisson, delta=1e-6, relation="add")
    no_run_or_the_last = [math.exp(-mean * p[1]) for p in (without, with_it)]
    assert no_run_or_the_last[0] - math.exp(epsilon) * no_run_or_the_last[1] <= 1e-6


@pytest.mark.parametrize("mean", [0.05, 0.5, 1.0, 3.0])
def test_without_a_run_there_is_nothing_to_see(mean):
    """Of a Poisson number: the lower end is below the best of all rankings, chance included."""
    p, q = np.array([0.9, 0.05, 0.05]), np.array([0.02, 0.08, 0.9])
    selection = PrivateSelection(Pair(tuple(p), tuple(q)), mean, math.inf)

    def law(masses, ranking):
        upto = np.cumsum(masses[ranking])
        return np.diff(np.exp(mean * (np.minimum(upto, 1.0) - 1)), prepend=math.exp(-mean))

    def delta(epsilon):
        by_rank = (
            np.maximum(law(p, list(r)) - math.exp(epsilon) * law(q, list(r)), 0.0).sum()
            for r in itertools.permutations(range(3))
        )
        by_chance = -math.expm1(-mean) * np.maximum(p - math.exp(epsilon) * q, 0.0).sum()
        return max(*by_rank, by_chance)

    for epsilon in (0.1, 0.5, 2.0, 3.5):
        bounds = accounting.delta_bounds(selection, epsilon=epsilon, relation="remove")
        assert bounds.lower <= delta(epsilon) + 1e-9 <= bounds.upper + 2e-9
        lower, upper = accounting.epsilon_bounds(selection, delta=0.03, relation="remove")
        assert upper == 0 or delta(upper) <= 0.03 + 1e-9
        assert lower == 0 or delta(lower * (1 - 1e-6)) >= 0.03 - 1e-9


def test_a_run_that_tells_next_to_nothing():
    for shape in (0, 1, math.inf):
        selection = PrivateSelection(Gaussian(1e7), 3, shape)
        lower, upper = accounting.epsilon_bounds(selection, delta=1e-9)
        assert 0 <= lower <= upper < 1e-5
        lower, upper = accounting.delta_bounds(selection, epsilon=1e-9)
        assert 0 <= lower <= upper < 1e-5


def test_delta_near_1_is_below_its_chords():
    selection = PrivateSelection(Gaussian(2.0), 10, 1)
    assert accounting.delta(selection, epsilon=0.0) < 0.95
    assert accounting.delta(selection, epsilon=0.5) < 1.0
    deltas = [accounting.delta(selection, epsilon=e) for e in np.linspace(0, 4, 30)]
    assert deltas == sorted(deltas, reverse=True)


def test_noise_is_found_for_the_best_of_several():
    sigma = accounting.noise_multiplier(
        target_epsilon=3.0, delta=1e-5, sample_rate=1.0, steps=4, best_of=(10, 0)
    )

    def epsilon(sigma):
        run = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=1.0, steps=4)
        return accounting.epsilon(PrivateSelection(run, 10, 0), delta=1e-5)

    assert epsilon(sigma) <= 3.0 < epsilon(sigma * (1 - 2e-6))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: PrivateSelection(Gaussian(1.0), 0.5, 1), "mean_runs of at least 1"),
        (lambda: PrivateSelection(Gaussian(1.0), 5, -1.0), "a shape between"),
        (lambda: PrivateSelection(Gaussian(1.0), 0.0, math.inf), "mean_runs above 0"),
        (
            lambda: PrivateSelection(PrivateSelection(Gaussian(1.0), 5, 1), 5, 1),
            "a selection among selections",
        ),
        (
            lambda: accounting.rdp(PrivateSelection(Gaussian(1.0), 5, math.inf), order=3.0),
            "no bound on the moments",
        ),
        (
            lambda: accounting.epsilon(
                accounting.Group(2, PrivateSelection(Gaussian(1.0), 5, 1)), delta=1e-5
            ),
            "no bound is proven",
        ),
        (
            lambda: accounting.noise_multiplier(
                target_epsilon=3.0, delta=1e-5, sample_rate=1.0, steps=4, best_of=(0, 1)
            ),
            "mean_runs of at least 1",
        ),
    ],
)
def test_what_has_no_proof_is_refused(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()


def test_it_is_written_and_read():
    selection = PrivateSelection(Gaussian(2.0) * 3, 10, math.inf)
    assert accounting.from_json(accounting.to_json(selection)) == selection
