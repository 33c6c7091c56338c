"""L12: audits are valid. What sits exactly on a claim is refuted with probability alpha at most.

Each case draws nulls from a mechanism that meets its claim with equality, in the ways in which
mechanisms can: randomised response, a sure atom, everything revealed at once, ties, Gaussian noise.
Errors are counted against alpha and three standard errors; the two usual wrong ways, the best
threshold and the best number of guesses without paying for the choice, fail the same count.
``NULLS`` or fewer are drawn in the gate, 2,000 at night; ``python -m tests.laws.test_l12_audits``
prints the table of all, or of those that are named behind it.
"""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from dpfunc import accounting, audit
from dpfunc.audit.canaries.release import four_tests
from dpfunc.audit.statistics import claims, path_test, rank_test
from tests.audit.null import ALPHA, chance, most_errors, one_run, responses, split

NULLS, AT_NIGHT = 400, 2000


def wrong(count, refutes, seed=0):
    """How many of ``count`` nulls are refuted."""
    rng = np.random.default_rng(seed)
    return sum(refutes(rng) for _ in range(count))


def by_ranks(n_in, n_out, epsilon, delta=0.0, jitter=0.5):
    claim = accounting.ApproxDP(epsilon, delta)

    def refutes(rng):
        scores = split(
            rng, n_in, n_out, lambda is_in: responses(rng, is_in, epsilon, delta, jitter)
        )
        return audit.test_claim(scores, claim).value <= ALPHA

    return refutes


def by_ranks_of_noise(rng):
    scores = split(rng, 500, 500, lambda is_in: rng.normal(size=1000) + is_in)
    return audit.test_claim(scores, accounting.Gaussian(1.0)).value <= ALPHA


def by_path(canaries, epsilon, delta=0.0, jitter=0.5):
    """Refuted at the truth: what the bound, a scan from below, needs to exceed it."""

    def refutes(rng):
        scores = one_run(rng, canaries, lambda is_in: responses(rng, is_in, epsilon, delta, jitter))
        return path_test.is_refuted(path_test.paths(scores), epsilon, delta, ALPHA)

    return refutes


def by_path_all_revealed(rng, canaries=20, delta=1e-3):
    shown = rng.random() < delta
    scores = one_run(rng, canaries, lambda is_in: is_in * 3.0 * shown + rng.random(canaries))
    return path_test.is_refuted(path_test.paths(scores), 0.0, delta, ALPHA)


def by_fixed_guesses(rng, canaries=500, guesses=100, epsilon=1.0, delta=1e-4):
    scores = one_run(rng, canaries, lambda is_in: responses(rng, is_in, epsilon, delta))
    right = path_test.paths(scores).turns[guesses - 1]
    return path_test.fixed_p(canaries, guesses, right, epsilon, delta) <= ALPHA


def noisy_run(rng, canaries=500):
    return one_run(rng, canaries, lambda is_in: rng.normal(size=canaries) + is_in)


def by_whole_curve(rng):
    claim = accounting.Gaussian(1.0)
    return audit.test_claim(noisy_run(rng), claim, setting="one_run").value <= ALPHA


def mu_of_one_run(rng):
    return audit.mu_lower_bound(noisy_run(rng), confidence=1 - ALPHA, setting="one_run").value > 1


def mu_of_many_runs(rng):
    scores = split(rng, 500, 500, lambda is_in: rng.normal(size=1000) + is_in)
    return audit.mu_lower_bound(scores, confidence=1 - ALPHA).value > 1


def epsilon_of(setting, n=200, epsilon=1.0, delta=1e-5, **options):
    """The bound itself, where the cases above ask for its p-value at the truth."""
    settings = {"delta": delta, "confidence": 1 - ALPHA, "setting": setting} | options

    def refutes(rng):
        scores = one_run(rng, n, lambda is_in: responses(rng, is_in, epsilon, delta))
        return audit.epsilon_lower_bound(scores, **settings).value > epsilon

    return refutes


def by_fixed_guesses_of_a_curve(rng):
    settings = {"setting": "one_run", "guesses": 50}
    scores = noisy_run(rng, 200)
    return audit.test_claim(scores, accounting.Gaussian(1.0), **settings).value <= ALPHA


def mu_of_fixed_guesses(rng):
    settings = {"setting": "one_run", "guesses": 50}
    return audit.mu_lower_bound(noisy_run(rng, 200), confidence=1 - ALPHA, **settings).value > 1


def by_release(rng, steps=5, canaries=60, sigma=0.5, rate=0.1):
    """The four tests of `audit_release` together, of a run that is what its event says."""
    is_in = rng.random(canaries) < 0.5
    taken = is_in * (rng.random((steps, canaries)) < rate)
    values = taken + sigma * rng.normal(size=(steps, canaries))
    return 4 * min(four_tests(values, is_in, sigma, rate).values()) <= ALPHA


def above_its_curve(rng):
    """`Roc.above`: an attack that is as good as the event allows any."""
    scores = noisy_run(rng, 600)
    member = np.arange(600) < len(scores.inside)
    return audit.roc([*scores.inside, *scores.outside], member).above(accounting.Gaussian(1.0))


def by_band(rng, rate=0.1):
    """`Roc.tpr_at`: the true rate is outside of its band."""
    scores = noisy_run(rng, 400)
    member = np.arange(400) < len(scores.inside)
    band = audit.roc([*scores.inside, *scores.outside], member).tpr_at(rate)
    return not band.low <= norm.sf(norm.isf(rate) - 1) <= band.high


def by_area(rng):
    """The band of the area, DeLong's: right in the limit, and a little too narrow before."""
    scores = noisy_run(rng, 400)
    member = np.arange(400) < len(scores.inside)
    area = audit.roc([*scores.inside, *scores.outside], member).auc
    return not area.low <= norm.cdf(1 / math.sqrt(2)) <= area.high


def by_noise_check(rng):
    """`check_noise` at its own alpha, 1e-4."""

    def release(_):
        return {name: torch.from_numpy(rng.normal(size=60)) for name in ("w", "b")}

    return bool(audit.check_noise(release, bound=1.0, noise_multiplier=1.0, steps=4).findings)


def by_sampler_check(rng):
    """`check_sampler` at its own alpha, 1e-4."""
    drawn = rng.random((60, 80)) < 0.25
    return not audit.check_sampler(lambda t: drawn[t].nonzero()[0], size=80, rate=0.25, steps=60)


CASES = {
    "ranks-nothing-told": by_ranks(500, 500, 0.0),
    "ranks-response": by_ranks(500, 500, 1.0),
    "ranks-sure-atom": by_ranks(500, 500, 3.0, 0.01),
    "ranks-ties": by_ranks(500, 500, 1.0, jitter=0.0),
    "ranks-30+20": by_ranks(30, 20, 1.0),
    "ranks-noise": by_ranks_of_noise,
    "path-nothing-told": by_path(1000, 0.0),
    "path-response": by_path(1000, 1.0),
    "path-response-200": by_path(200, 3.0),
    "path-ties": by_path(200, 1.0, jitter=0.0),
    "path-sure-atom": by_path(300, 2.0, 5e-5),
    "path-all-revealed": by_path_all_revealed,
    "guesses-fixed": by_fixed_guesses,
    "whole-curve-noise": by_whole_curve,
}


BOUNDS = {
    "mu-ranks": mu_of_many_runs,
    "mu-one-run": mu_of_one_run,
    "mu-guesses-fixed": mu_of_fixed_guesses,
    "whole-curve-guesses-fixed": by_fixed_guesses_of_a_curve,
    "epsilon-ranks": epsilon_of("independent"),
    "epsilon-one-run": epsilon_of("one_run"),
    "epsilon-guesses-fixed": epsilon_of("one_run", guesses=50),
    "release-four-tests": by_release,
    "roc-above": above_its_curve,
    "roc-band": by_band,
}
ASYMPTOTIC = {"roc-area": by_area}  # which promises nothing at alpha: a line of the table alone
CHECKS = {"check-noise": by_noise_check, "check-sampler": by_sampler_check}
OWN_ALPHA = 1e-4
SLOW = {"ranks-noise": 100, "whole-curve-noise": 15, "mu-ranks": 10, "mu-one-run": 10} | {
    "mu-guesses-fixed": 20,
    "whole-curve-guesses-fixed": 60,
    "epsilon-ranks": 20,
    "epsilon-one-run": 10,
    "epsilon-guesses-fixed": 60,
    "release-four-tests": 100,
    "roc-above": 20,
    "roc-band": 100,
}


@pytest.mark.parametrize("case", CASES | BOUNDS)
def test_a_true_claim_is_seldom_refuted(case):
    count = SLOW.get(case, NULLS)
    assert wrong(count, (CASES | BOUNDS)[case]) <= most_errors(count)


@pytest.mark.nightly
@pytest.mark.parametrize("case", CASES | BOUNDS)
def test_a_true_claim_is_seldom_refuted_in_full(case):
    assert wrong(AT_NIGHT, (CASES | BOUNDS)[case]) <= most_errors(AT_NIGHT)


@pytest.mark.nightly  # 2,000 runs of a check take minutes
@pytest.mark.parametrize("check", CHECKS)
def test_what_is_as_promised_is_hardly_ever_accused(check):
    assert wrong(AT_NIGHT, CHECKS[check]) <= most_errors(AT_NIGHT, OWN_ALPHA)


def any_time(claim, draw, count, trials=400):
    """How many of ``count`` sequential tests ever fall to alpha: stopping as it suits."""
    rng = np.random.default_rng(0)
    test = audit.Sequential(claim)
    state = test.init()
    for _ in range(trials):
        member = rng.random(count) < 0.5
        state = test.after(member, *draw(rng, member), state)
    return int((state.p_value <= ALPHA).sum())


def one_bit(rng, member):
    bit = np.where(rng.random(len(member)) < chance(1.0), member, ~member)
    return bit, ~bit


def shown_or_nothing(rng, member, delta=0.1):
    shown = rng.random(len(member)) < delta
    return shown & member, shown & ~member


SEQUENTIAL = {
    "response": (accounting.PureDP(1.0), one_bit),
    "shown-with-probability-delta-else-no-guess": (accounting.ApproxDP(0.0, 0.1), shown_or_nothing),
}


@pytest.mark.parametrize("case", SEQUENTIAL)
def test_stopping_when_one_likes_is_paid_for(case):
    assert any_time(*SEQUENTIAL[case], AT_NIGHT) <= most_errors(AT_NIGHT)


def best_number_of_guesses(rng, canaries=1000):
    """Wrong: the best binomial tail over all numbers of guesses, not paid for."""
    scores = one_run(rng, canaries, lambda is_in: rng.random(canaries))
    turns = np.array(path_test.paths(scores).turns)
    counts = np.arange(1, canaries + 1)
    return binom.sf(turns - 1, counts, 0.5).min() <= ALPHA


def best_threshold(rng):
    """Wrong: the least p-value of all thresholds, as if the best had been known beforehand."""
    scores = split(rng, 500, 500, lambda is_in: rng.random(1000))
    claim = claims.approximate_claim(0.0, 0.0)
    return min(rank_test.p_value(test, claim) for test in rank_test.rank_tests(scores)) <= ALPHA


WRONG = {"best-number-of-guesses": best_number_of_guesses, "best-threshold": best_threshold}


@pytest.mark.parametrize("way", WRONG)
def test_a_choice_that_is_not_paid_for_fails_the_same_count(way):
    assert wrong(NULLS, WRONG[way]) > most_errors(NULLS)


def table(chosen):
    """The rates of all cases, or of those that are ``chosen``, at night's count."""
    for name, refutes in {**CASES, **BOUNDS, **ASYMPTOTIC, **CHECKS, **WRONG}.items():
        if not chosen or name in chosen:
            errors = wrong(AT_NIGHT, refutes)
            print(f"| {name} | {errors} of {AT_NIGHT} | {errors / AT_NIGHT:.1%} |", flush=True)
    for name, case in SEQUENTIAL.items():
        if not chosen or name in chosen:
            errors = any_time(*case, AT_NIGHT)
            print(f"| sequential, {name} | {errors} of {AT_NIGHT} | {errors / AT_NIGHT:.1%} |")


if __name__ == "__main__":
    table(sys.argv[1:])
