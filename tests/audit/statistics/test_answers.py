"""The three questions: power, what inverts what, and what is refused with the reason."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpfunc import accounting, audit
from dpfunc.audit.statistics import claims, path_test, rank_test
from tests.audit.null import responses, split

MEASURED = json.loads((Path(__file__).parent / "reference.json").read_text())["measured_power"]


def noisy(rng, n, mu, fair_coins=True):
    return audit.Scores(rng.normal(size=n) + mu, rng.normal(size=n), fair_coins)


def values(answer, n, mu, repeats):
    rng = np.random.default_rng(1)
    return np.array([answer(noisy(rng, n, mu)).value for _ in range(repeats)])


def mean(answer, n, mu, repeats=8):
    return values(answer, n, mu, repeats).mean()


@pytest.mark.parametrize(
    "case",
    [c for c in MEASURED if c["n_each"] == 1000 and c["mu"] in (1.0, 2.0)],
    ids=lambda c: f"{c['mu']} {c['n_each']}",
)
def test_power_is_that_of_the_prototype(case):
    n, mu = case["n_each"], case["mu"]
    found = mean(lambda s: audit.epsilon_lower_bound(s, delta=1e-5, confidence=0.95), n, mu)
    assert found >= 0.95 * case["many"]
    found = mean(lambda s: audit.mu_lower_bound(s, confidence=0.95), n, mu)
    assert found >= 0.95 * case["gdp"]


@pytest.mark.nightly
@pytest.mark.parametrize("case", MEASURED, ids=lambda c: f"{c['mu']} {c['n_each']}")
def test_power_is_that_of_the_prototype_in_full(case):
    """Of a hundred scores both are means that vary: by less than their standard errors explain."""
    n, mu = case["n_each"], case["mu"]
    few = n == 100
    repeats = 64 if few else 8
    answers = {
        "many": lambda s: audit.epsilon_lower_bound(s, delta=1e-5, confidence=0.95),
        "gdp": lambda s: audit.mu_lower_bound(s, confidence=0.95),
        "one_run_fdp_mu": lambda s: audit.mu_lower_bound(s, confidence=0.95, setting="one_run"),
    }
    for name, answer in answers.items():
        if name in case:
            found = values(answer, n, mu, repeats)
            error = found.std() * math.sqrt(1 / repeats + 1 / 8)  # the prototype's are means of 8
            least = case[name] - 3 * error if few else 0.95 * case[name]
            assert found.mean() >= least, name


def test_a_bound_is_where_the_p_value_crosses_alpha():
    rng = np.random.default_rng(2)
    for _ in range(5):
        scores = noisy(rng, 200, 1.5)
        bound = audit.epsilon_lower_bound(scores, delta=1e-3, confidence=0.9).value
        for epsilon, refuted in ((bound, True), (bound + 1e-4, False)):
            claim = accounting.ApproxDP(epsilon, 1e-3)
            assert (audit.test_claim(scores, claim).value <= 0.1 * (1 + 1e-6)) == refuted


def test_a_threshold_is_chosen_by_the_other_side():
    """Scores that tell nothing about the k-th extreme but for where it is taken from."""
    tests = rank_test.rank_tests(audit.Scores([5.0, 4.0, 3.0, 0.0], [4.5, 2.0, 1.0, -1.0]))
    assert tests[0] == rank_test.RankTest(1, 4, 1, 4)  # above 4.5: one
    assert tests[1] == rank_test.RankTest(2, 4, 3, 4)  # above 2: three
    assert tests[2] == rank_test.RankTest(1, 4, 1, 4)  # below 0: one


def test_equal_scores_tell_nothing():
    same = audit.Scores([1.0] * 50, [1.0] * 50)
    assert all(test.beyond == 0 for test in rank_test.rank_tests(same))
    found = path_test.paths(audit.Scores([1.0] * 50, [1.0] * 50))
    assert found.top[-1] == 0  # the worst order: all that were out come first
    assert found.turns[-1] == 0


def test_the_path_of_equal_scores_is_below_that_of_any_order():
    rng = np.random.default_rng(3)
    for _ in range(200):
        inside, outside = rng.integers(0, 4, 7), rng.integers(0, 4, 6)
        worst = path_test.paths(audit.Scores(inside, outside))
        some = path_test.paths(
            audit.Scores(inside + rng.random(7) / 2, outside + rng.random(6) / 2)
        )
        assert (np.array(worst.top) <= some.top).all()
        assert (np.array(worst.turns) <= some.turns).all()


@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_the_quick_decision_is_the_p_values(delta):
    rng = np.random.default_rng(4)
    found = path_test.paths(noisy(rng, 200, 1.0))
    for epsilon in np.arange(0, 1.5, 0.02):  # the p-value is between 0.03 and 0.1 for some
        p = path_test.path_p(found, epsilon, delta)
        assert path_test.is_refuted(found, epsilon, delta, 0.05) == (p <= 0.05)


def test_every_canary_costs_its_delta():
    found = path_test.paths(noisy(np.random.default_rng(5), 200, 1.0))
    more = path_test.path_p(found, 0.5, 1e-5) - path_test.path_p(found, 0.5, 0.0)
    assert more == pytest.approx(400e-5)


def test_the_quick_decision_costs_its_delta():
    """Between the epsilons that delta 0 and 1e-4 leave refuted the decisions differ."""
    found = path_test.paths(noisy(np.random.default_rng(5), 100, 1.0))
    grid = np.arange(0, 2, 0.02)
    free = [path_test.is_refuted(found, e, 0.0, 0.05) for e in grid]
    paid = [path_test.is_refuted(found, e, 2e-4, 0.05) for e in grid]
    assert paid == [path_test.path_p(found, e, 2e-4) <= 0.05 for e in grid]
    assert sum(paid) < sum(free)


def test_numbers_of_guesses_are_paid_for():
    scores = noisy(np.random.default_rng(5), 500, 1.0)
    event = accounting.Gaussian(2.0)
    several = audit.test_claim(scores, event, setting="one_run").value
    alone = [
        audit.test_claim(scores, event, setting="one_run", guesses=r).value
        for r in (20, 50, 100, 200, 400, 1000)
    ]
    assert several == pytest.approx(6 * min(alone))


def test_the_top_half_alone_is_guessed_to_be_in():
    found = path_test.paths(noisy(np.random.default_rng(6), 101, 1.0))
    assert len(found.top) == 101
    assert len(found.turns) == 202


def test_one_run_stops_at_the_first_claim_that_holds():
    """p falls again beyond it, as the p-values of this path really do not only rise."""
    ps = iter([0.0, 0.01, 0.2, 0.0, 0.0])
    assert path_test.largest_refuted(lambda e: next(ps), 0.05) == 0.01


def test_a_claim_is_above_the_true_curve_and_close():
    u = np.linspace(1e-4, 1 - 1e-4, 999)
    true = claims.GaussianClaim(1.0).power(u)
    found = claims.claim_of("test", accounting.Gaussian(1.0), "add_or_remove").power(u)
    assert (found >= true - 1e-9).all()
    assert (found <= true + 0.003).all()


def test_a_promise_keeps_its_corner():
    u = np.linspace(0, 1, 101)
    found = claims.claim_of("test", accounting.PureDP(1.3), "add_or_remove").power(u)
    assert found == pytest.approx(claims.approximate_claim(1.3, 0.0).power(u), abs=1e-6)


def test_a_curve_and_its_inverse():
    claim = claims.claim_of("test", accounting.Gaussian(0.7), "add_or_remove")
    u = np.linspace(0.001, 0.5, 50)
    assert (claim.rate(claim.power(u)) <= u * (1 + 1e-9)).all()
    assert claim.rate(claim.power(u)) == pytest.approx(u, rel=1e-6)


def test_a_replaced_record_is_another_claim():
    scores = noisy(np.random.default_rng(7), 300, 1.5)
    one = audit.test_claim(scores, accounting.Gaussian(1.0))
    two = audit.test_claim(scores, accounting.Gaussian(1.0), relation="replace_one")
    assert one.value < 0.01 < two.value
    assert (one.relation, two.relation) == ("add_or_remove", "replace_one")


def test_a_result_says_all_that_belongs_to_it():
    scores = noisy(np.random.default_rng(8), 100, 1.0)
    result = audit.epsilon_lower_bound(scores, delta=1e-5, confidence=0.95)
    for word in ("0.95", "epsilon", "add_or_remove", "100 in", "independent"):
        assert word in str(result)
    assert "mu" in audit.mu_lower_bound(scores, confidence=0.95).method
    one_run = audit.epsilon_lower_bound(scores, delta=1e-5, confidence=0.95, setting="one_run")
    assert "fair coin" in str(one_run)


def test_a_jittered_response_is_bounded_by_its_epsilon_nearly():
    rng = np.random.default_rng(9)
    scores = split(rng, 5000, 5000, lambda is_in: responses(rng, is_in, 1.0))
    assert 0.8 < audit.epsilon_lower_bound(scores, delta=0.0, confidence=0.95).value < 1.0


def test_the_statistics_import_no_torch():
    code = (
        "import sys\n"
        "from dpfunc import audit\n"
        "s = audit.Scores([3.0] * 50, [0.0] * 50)\n"
        "audit.epsilon_lower_bound(s, delta=0.0, confidence=0.95)\n"
        "audit.Sequential\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SCORES = audit.Scores(range(100), range(100), fair_coins=True)
HALVES = audit.Scores(range(100), range(100))


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda: audit.Scores([], [1.0]), "a row of numbers inside"),
        (lambda: audit.Scores([1.0], [float("nan")]), "1 of 1 NaN"),
        (lambda: audit.Scores.of([1.0, 2.0], [1, 0]), "booleans in member"),
        (
            lambda: audit.epsilon_lower_bound(
                audit.Scores([1.0] * 3, [0.0] * 3), delta=0.0, confidence=0.95
            ),
            "even perfect ones would not",
        ),
        (
            lambda: audit.epsilon_lower_bound(SCORES, delta=1e-5, confidence=95),
            "a confidence of at least 0.5",
        ),
        (
            lambda: audit.epsilon_lower_bound(SCORES, delta=-1.0, confidence=0.95),
            "a probability 0 <= delta",
        ),
        (
            lambda: audit.epsilon_lower_bound(
                SCORES, delta=1e-3, confidence=0.95, setting="one_run"
            ),
            "audit fewer canaries",
        ),
        (
            lambda: audit.epsilon_lower_bound(
                HALVES, delta=0.0, confidence=0.95, setting="one_run"
            ),
            "exactly half of 200 in",
        ),
        (
            lambda: audit.mu_lower_bound(
                audit.Scores(range(100), range(10)), confidence=0.95, setting="one_run"
            ),
            "probability 1/2",
        ),
        (
            lambda: audit.test_claim(SCORES, accounting.Gaussian(0.05), setting="one_run"),
            "all guesses right would not refute it",
        ),
        (
            lambda: audit.epsilon_lower_bound(SCORES, delta=0.0, confidence=0.95, guesses=10),
            "only in the setting one_run",
        ),
        (
            lambda: audit.test_claim(SCORES, accounting.Gaussian(1.0), relation="add"),
            "both orders",
        ),
        (
            lambda: audit.mu_lower_bound(SCORES, confidence=0.95, relation="remove"),
            "mu_lower_bound: expected a relation with both orders",
        ),
        (
            lambda: audit.epsilon_lower_bound(SCORES, delta=0.0, confidence=0.95, relation="add"),
            "epsilon_lower_bound: expected a relation with both orders",
        ),
        (
            lambda: audit.mu_lower_bound(SCORES, confidence=0.95, setting="one_run", guesses=500),
            "from 1 to 200",
        ),
        (lambda: audit.mu_lower_bound(SCORES, confidence=0.95, setting="two"), "the setting"),
        (lambda: audit.gaussian_epsilon(-1.0, delta=1e-5), "a mu >= 0"),
    ],
)
def test_what_proves_nothing_is_refused_with_the_reason(ask, reason):
    with pytest.raises(ValueError, match=reason):
        ask()


def test_fixed_guesses_that_are_next_to_never_all_wrong():
    """A release of three bits b has the probability f[number of them that are right]."""
    delta = 0.05
    f = [1 / 8 - 7 / 8 * delta, *[1 / 8 + delta / 8] * 3]
    others = itertools.product((0, 1), repeat=2)  # which of the other bits are right
    apart = sum(abs(f[sum(right)] - f[sum(right) + 1]) for right in others)
    assert apart == pytest.approx(delta)  # in total variation, where one coin is another
    assert path_test.fixed_p(3, 3, 1, 0.0, delta) >= 1 - f[0]


def test_a_mu_as_an_epsilon_is_that_of_gaussian_noise():
    found = audit.gaussian_epsilon(0.5, delta=1e-6)
    assert found == accounting.epsilon(accounting.Gaussian(2.0), delta=1e-6)
    assert audit.gaussian_epsilon(0.0, delta=1e-6) == 0.0
