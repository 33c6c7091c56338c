"""Every sampled pair against the curves of actual neighbouring data sets, listed out in full.

The data sets are small enough for every batch to be listed, so that the curve of delta is known by
numerical integration alone. It must never be above the pair's, at any epsilon of either sign.
"""

from itertools import product

import numpy as np
import pytest

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    PureDP,
    RandomAllocation,
    RandomizedResponse,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.domination.composition import dominating_pair
from tests.accounting.curves import (
    GRID,
    NOISE,
    delta_at,
    density,
    draw_outcomes,
    hockey_stick,
    poisson_outcomes,
    subset_outcomes,
)

EPSILONS = np.linspace(-2.4, 2.4, 13)
SLACK = 1e-6  # of the numerical integration of densities with kinks
OTHERS = list(product((-1.0, 1.0), repeat=2)) + [(0.5, -1.0), (0.0, 0.0)]
NOISES = [("normal", Gaussian, 0.8), ("laplace", Laplace, 1.3)]
EACH_NOISE = pytest.mark.parametrize(("noise", "kind", "scale"), NOISES, ids=["normal", "laplace"])


def check(event, relation, order, data_sets, outcomes, noise, scale, attained=None):
    """No pair of data sets is above the curve; where ``attained``, the worst is on it."""
    bound = delta_at(dominating_pair(event, relation, order), EPSILONS)
    worst = np.zeros(len(EPSILONS))
    for with_record, without in data_sets:
        p, q = (density(outcomes(data), noise, scale) for data in (with_record, without))
        worst = np.maximum(worst, hockey_stick(*((q, p) if order == "add" else (p, q)), EPSILONS))
    assert (worst <= bound + SLACK).all()
    if attained is not None:
        np.testing.assert_allclose(worst[attained], bound[attained], atol=2 * SLACK)


def removals():
    return [([*others, x], [*others]) for others in OTHERS for x in (-1.0, 0.3, 1.0)]


def replacements():
    ends = [(1.0, -1.0), (-1.0, 1.0), (1.0, 0.2), (0.0, -1.0), (0.0, 1.0)]
    return [([*others, x], [*others, other]) for others in OTHERS for x, other in ends]


def zeroings():
    return [([*others, x], [*others, 0.0]) for others in OTHERS for x in (-1.0, 0.3, 1.0)]


@EACH_NOISE
@pytest.mark.parametrize("order", ["remove", "add"])
@pytest.mark.parametrize("relation", ["add_or_remove", "zero_out"])
def test_poisson_comes_or_goes(relation, order, noise, kind, scale):
    def outcomes(data):
        return poisson_outcomes(data, 0.3)

    data_sets = removals() if relation == "add_or_remove" else zeroings()
    event = Poisson(0.3, kind(scale))
    check(event, relation, order, data_sets, outcomes, noise, scale, slice(None))


@EACH_NOISE
def test_poisson_replaces(noise, kind, scale):
    def outcomes(data):
        return poisson_outcomes(data, 0.3)

    event = Poisson(0.3, kind(scale))
    check(event, "replace_one", "replace_one", replacements(), outcomes, noise, scale, slice(None))


@EACH_NOISE
@pytest.mark.parametrize("order", ["remove", "add"])
def test_poisson_of_a_group(order, noise, kind, scale):
    def outcomes(data):
        return poisson_outcomes(data, 0.3)

    groups = product((-1.0, 0.4, 1.0), repeat=3)
    data_sets = [([other, *group], [other]) for group in groups for other in (0.0, 0.5)]
    event = Group(3, Poisson(0.3, kind(scale)))
    check(event, "add_or_remove", order, data_sets, outcomes, noise, scale, slice(None))


@EACH_NOISE
def test_poisson_replaces_a_group(noise, kind, scale):
    def outcomes(data):
        return poisson_outcomes(data, 0.3)

    ends = (-1.0, 0.2, 1.0)
    data_sets = [([0.0, a, b], [0.0, c, d]) for a, b, c, d in product(ends, repeat=4)]
    event = Group(2, Poisson(0.3, kind(scale)))
    check(event, "replace_one", "replace_one", data_sets, outcomes, noise, scale, slice(None))


@EACH_NOISE
@pytest.mark.parametrize("order", ["remove", "add"])
def test_without_replacement_comes_or_goes(order, noise, kind, scale):
    def outcomes(data):
        return subset_outcomes(data, 1)

    event = WithoutReplacement(1, 3, kind(scale))
    check(event, "add_or_remove", order, removals(), outcomes, noise, scale, slice(None))


@EACH_NOISE
@pytest.mark.parametrize(
    ("relation", "order"),
    [("replace_one",) * 2, ("zero_out", "remove"), ("zero_out", "add")],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_without_replacement_changes_a_value(batch_size, relation, order, noise, kind, scale):
    def outcomes(data):
        return subset_outcomes(data, batch_size)

    event = WithoutReplacement(batch_size, 3, kind(scale))
    data_sets = replacements() if relation == "replace_one" else zeroings()
    on_it = slice(None) if relation == "replace_one" else None
    check(event, relation, order, data_sets, outcomes, noise, scale, on_it)


@EACH_NOISE
@pytest.mark.parametrize("order", ["remove", "add"])
def test_with_replacement_comes_or_goes(order, noise, kind, scale):
    def outcomes(data):
        return draw_outcomes(data, 3)

    event = WithReplacement(3, 3, kind(scale))
    check(event, "add_or_remove", order, removals(), outcomes, noise, scale, slice(None))


@EACH_NOISE
@pytest.mark.parametrize(
    ("relation", "order"),
    [("replace_one",) * 2, ("zero_out", "remove"), ("zero_out", "add")],
)
def test_with_replacement_changes_a_value(relation, order, noise, kind, scale):
    def outcomes(data):
        return draw_outcomes(data, 2)

    event = WithReplacement(2, 3, kind(scale))
    data_sets = replacements() if relation == "replace_one" else zeroings()
    check(event, relation, order, data_sets, outcomes, noise, scale)


TRUNCATED_OTHERS = [(1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (-1.0, 1.0, 0.5)]


@EACH_NOISE
@pytest.mark.parametrize("cap", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("relation", "order"),
    [
        ("add_or_remove", "remove"),
        ("add_or_remove", "add"),
        ("zero_out", "remove"),
        ("zero_out", "add"),
        ("replace_one", "replace_one"),
    ],
)
def test_truncated_poisson(relation, order, cap, noise, kind, scale):
    def outcomes(data):
        return poisson_outcomes(data, 0.4, cap)

    ends = {"add_or_remove": [()], "zero_out": [(0.0,)], "replace_one": [(-1.0,), (1.0,), (0.0,)]}
    data_sets = [
        ([*others, x], [*others, *instead])
        for others in TRUNCATED_OTHERS
        for x in (-1.0, 1.0)
        for instead in ends[relation]
    ]
    event = TruncatedPoisson(0.4, cap, 4, kind(scale))
    check(event, relation, order, data_sets, outcomes, noise, scale)


def test_a_cap_that_is_never_reached_is_none():
    for relation, order in (("add_or_remove", "add"), ("replace_one", "replace_one")):
        capped = dominating_pair(TruncatedPoisson(0.1, 10, 10, Gaussian(1.0)), relation, order)
        assert capped == dominating_pair(Poisson(0.1, Gaussian(1.0)), relation, order)


@EACH_NOISE
def test_shuffled_batches(noise, kind, scale):
    """Two batches of two, both released: the curve of both together, by a grid in the plane."""
    pair = dominating_pair(Shuffled(kind(scale)), "replace_one", "replace_one")
    grid = GRID[::300]
    width = grid[1] - grid[0]

    def both(data):
        halves = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        total = 0.0
        for half in halves:
            first = sum(data[i] for i in half)
            sums = (first, sum(data) - first)
            total = total + np.outer(*(NOISE[noise](grid - s, scale) for s in sums)) / len(halves)
        return total

    epsilons = np.array([0.1, 0.5, 1.0, 1.5])
    bound = delta_at(pair, epsilons)
    for others in [(1.0, 1.0, 1.0), (0.0, 1.0, -1.0)]:
        p, q = both([*others, 1.0]), both([*others, -1.0])
        for epsilon, most in zip(epsilons, bound, strict=True):
            found = np.maximum(p - np.exp(epsilon) * q, 0).sum() * width**2
            assert found <= most + 1e-3


PROMISES = [PureDP(0.7), ApproxDP(0.7, 1e-3), ExponentialMechanism(1.2)]


@pytest.mark.parametrize("promise", PROMISES, ids=repr)
@pytest.mark.parametrize("rate", [0.01, 0.4])
def test_a_sampled_promise_has_the_amplified_curve(promise, rate):
    """``delta'(log(1 + q (e**epsilon - 1))) = q delta(epsilon)``: Balle et al. 2018, theorem 8."""
    base = dominating_pair(promise, "add_or_remove", "remove")
    epsilons = np.linspace(0.01, 1.3, 30)
    amplified = np.log1p(rate * np.expm1(epsilons))
    for order in ("remove", "add"):
        pair = dominating_pair(Poisson(rate, promise), "add_or_remove", order)
        if order == "remove":
            expected = rate * delta_at(base, epsilons)
            np.testing.assert_allclose(delta_at(pair, amplified), expected, rtol=1e-12, atol=1e-15)
        else:
            backwards = delta_at(pair, -amplified[::-1])[::-1]
            forwards = 1 - np.exp(-amplified) + np.exp(-amplified) * rate * delta_at(base, epsilons)
            np.testing.assert_allclose(backwards, forwards, rtol=1e-12)


@pytest.mark.parametrize("promise", PROMISES, ids=repr)
def test_a_promise_on_a_subset_of_fixed_size(promise):
    """Balle et al. 2018, theorem 9, at epsilon >= 0 and its mirror image below."""
    base = dominating_pair(promise, "replace_one", "replace_one")
    pair = dominating_pair(WithoutReplacement(30, 100, promise), "replace_one", "replace_one")
    epsilons = np.linspace(0.01, 1.3, 30)
    amplified = np.log1p(0.3 * np.expm1(epsilons))
    forwards = 0.3 * delta_at(base, epsilons)
    np.testing.assert_allclose(delta_at(pair, amplified), forwards, rtol=1e-12, atol=1e-15)
    mirrored = 1 - np.exp(-amplified) + np.exp(-amplified) * forwards
    np.testing.assert_allclose(delta_at(pair, -amplified[::-1])[::-1], mirrored, rtol=1e-12)


@pytest.mark.parametrize("promise", [*PROMISES, RandomizedResponse(0.5, 3)], ids=repr)
@pytest.mark.parametrize("relation", ["zero_out", "replace_one"])
def test_a_promise_about_a_value_averages_over_the_sample(promise, relation):
    order = "replace_one" if relation == "replace_one" else "remove"
    base = dominating_pair(promise, relation, order)
    pair = dominating_pair(Poisson(0.2, promise), relation, order)
    epsilons = np.linspace(0.01, 1.3, 30)
    np.testing.assert_allclose(
        delta_at(pair, epsilons), 0.2 * delta_at(base, epsilons), rtol=1e-12, atol=1e-16
    )


@pytest.mark.parametrize(
    ("event", "relation", "reason"),
    [
        (Poisson(0.1, ZCDP(0.1)), "add_or_remove", "ZCDP bounds moments only"),
        (ZCDP(0.1), "add_or_remove", "only Renyi DP"),
        (Poisson(0.1, RandomizedResponse(0.5, 2)), "add_or_remove", "number of answers is public"),
        (RandomizedResponse(0.5, 2), "add_or_remove", "number of answers is public"),
        (Shuffled(Gaussian(1.0)), "add_or_remove", "shifts the others"),
        (WithoutReplacement(1, 9, PureDP(1.0)), "add_or_remove", "batch size is fixed"),
        (WithReplacement(1, 9, PureDP(1.0)), "add_or_remove", "batch size is fixed"),
        (WithReplacement(1, 9, RandomizedResponse(0.5, 2)), "replace_one", "answers twice"),
        (WithReplacement(1, 9, ZCDP(0.1)), "replace_one", "only Renyi DP"),
        (TruncatedPoisson(0.1, 2, 9, PureDP(1.0)), "add_or_remove", "only sums with noise"),
        (Group(2, Poisson(0.1, PureDP(1.0))), "add_or_remove", "only sums with noise"),
        (Group(2, WithoutReplacement(1, 9, Gaussian(1.0))), "replace_one", "groups"),
        (Group(2, TruncatedPoisson(0.1, 2, 9, Gaussian(1.0))), "replace_one", "groups"),
        (Group(2, Shuffled(PureDP(1.0))), "replace_one", "groups"),
        (Group(2, MixtureOfGaussians(1.0, (1.0,), (1.0,))), "remove", "group privacy"),
        (MixtureOfGaussians(1.0, (1.0,), (1.0,)), "replace_one", "comes, goes or is zeroed"),
        (RandomAllocation(2, 5, PureDP(1.0)), "add_or_remove", "one by one"),
    ],
    ids=repr,
)
def test_without_a_proof_there_is_an_error(event, relation, reason):
    order = {"add_or_remove": "remove"}.get(relation, relation)
    with pytest.raises(ValueError, match=f"accounting: no bound is proven for .*{reason}"):
        dominating_pair(event, relation, order)
