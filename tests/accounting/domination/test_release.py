"""The pair of each mechanism against its closed form in 30 digits, sums and integrals."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting import (
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    Poisson,
    PureDP,
    RandomizedResponse,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.domination.composition import dominating_pair, is_attained, pairs
from dpfunc.accounting.pairs.bounded_range import BoundedRange
from dpfunc.accounting.pairs.combine import either, sampled, symmetric
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, approximate_dp
from dpfunc.accounting.pairs.integer_mixture import (
    DiscreteGaussianNoise,
    DiscreteLaplaceNoise,
    IntegerMixture,
)
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture, laplace_mass
from dpfunc.accounting.pairs.largest_loss import largest_loss
from tests.accounting.curves import delta_at

EPSILONS = np.array([-3.0, -1.1, -0.3, 0.0, 1e-3, 0.2, 0.7, 1.4, 2.6])
PAIRS = {
    "pure": approximate_dp(0.7, 0.0),
    "approximate": approximate_dp(0.7, 1e-3),
    "range": BoundedRange(1.3),
    "tiny range": BoundedRange(1e-7),
    "long range": BoundedRange(200.0),
    "laplace": LaplaceMixture(2.0, above=((1.0, 1.0),)),
    "sampled laplace": LaplaceMixture(0.5, above=((1.0, 0.01),)),
    "replaced laplace": LaplaceMixture(1.0, above=((1.0, 0.3),), below=((1.0, 0.3),)),
    "laplace group": LaplaceMixture(1.0, below=((1.0, 0.42), (2.0, 0.09))),
    "little laplace": LaplaceMixture(1e-3, above=((1.0, 0.3),)),
    "much laplace": LaplaceMixture(1e6, above=((1.0, 1.0),)),
    "discrete laplace": IntegerMixture(DiscreteLaplaceNoise(0.5), above=((3, 1.0),)),
    "sampled discrete": IntegerMixture(DiscreteLaplaceNoise(0.5), above=((1, 0.1),)),
    "discrete gaussian": IntegerMixture(DiscreteGaussianNoise(2.5), above=((1, 1.0),)),
    "wide gaussian": IntegerMixture(DiscreteGaussianNoise(300.0), above=((10, 0.1),)),
    "narrow gaussian": IntegerMixture(DiscreteGaussianNoise(0.1), below=((1, 0.1),)),
    "replaced": IntegerMixture(DiscreteGaussianNoise(1.0), above=((1, 0.3),), below=((1, 0.3),)),
    "either": either([(0.2, LaplaceMixture(2.0, above=((1.0, 1.0),))), (0.5, BoundedRange(1.0))]),
    "sampled range": sampled(BoundedRange(1.3), 0.1, adds=False),
    "added range": sampled(BoundedRange(1.3), 0.1, adds=True),
    "symmetric": symmetric(sampled(BoundedRange(1.3), 0.1, adds=False)),
    "symmetric laplace": symmetric(LaplaceMixture(2.0, above=((2.0, 0.1),))),
    "symmetric atoms": symmetric(sampled(approximate_dp(0.7, 1e-3), 0.1, adds=False)),
}
EACH = pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))


@EACH
@pytest.mark.parametrize("count", [2, 50, 700])
def test_cells_hold_all_mass_and_keep_the_loss_between_their_nodes(pair, count):
    nodes = pair.nodes(count, 1e-12)
    assert (np.diff(nodes) > 0).all()
    p, r, p_error, r_error, shift = pair.cells(nodes)
    assert len(p) == len(r) == len(nodes) + 1
    assert (p >= 0).all()
    assert (r >= 0).all()
    assert abs(p.sum() - 1) <= p_error.sum() + 1e-13
    assert abs(r.sum() - 1) <= r_error.sum() + 1e-13
    lost = sum(p for loss, p, _ in getattr(pair, "values", ()) if loss == math.inf)
    assert p[-1] <= max(lost, 0.0) + 1e-12 or pair is PAIRS["symmetric atoms"]
    assert 0 <= shift < 1e-9
    solid = (p > 1e-200) & (r > 1e-200) & (p > 2 * p_error) & (r > 2 * r_error)
    most = np.log((p + p_error)[solid] / (r - r_error)[solid])
    least = np.log((p - p_error)[solid] / (r + r_error)[solid])
    assert (most >= np.concatenate([[-np.inf], nodes])[solid] - shift).all()
    assert (least <= np.concatenate([nodes, [np.inf]])[solid] + shift).all()
    assert p_error.sum() < 1e-11
    assert r_error.sum() < 1e-11


@EACH
@settings(max_examples=20)
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=9, unique=True))
def test_coarse_cells_are_sums_of_fine_ones(pair, nodes):
    nodes = np.unique(np.round(nodes, 6))
    fine = np.unique(np.concatenate([nodes, np.linspace(-5, 5, 77)]))
    coarse_cells, fine_cells = pair.cells(nodes), pair.cells(fine)
    which = np.searchsorted(nodes, np.concatenate([fine, [np.inf]]), side="left")
    for coarse, parts in ((coarse_cells.p, fine_cells.p), (coarse_cells.r, fine_cells.r)):
        joined = np.bincount(which, weights=parts, minlength=len(nodes) + 1)
        np.testing.assert_allclose(joined, coarse, rtol=1e-9, atol=1e-12)


@EACH
def test_the_curve_is_one(pair):
    epsilons = np.linspace(-4, 4, 81)
    delta = delta_at(pair, epsilons)
    assert (delta <= 1 + 1e-14).all()
    assert (delta >= np.maximum(0, 1 - np.exp(epsilons)) - 1e-13).all()
    slopes = np.diff(delta) / np.diff(np.exp(epsilons))
    assert (np.diff(slopes) >= -1e-9).all()


def test_laplace():
    """``1 - exp((epsilon - 1/b) / 2)``: Balle and Wang 2018, and Dong et al. 2019."""
    pair = dominating_pair(Laplace(0.7), "add_or_remove", "remove")
    for epsilon, ours in zip(EPSILONS, delta_at(pair, EPSILONS), strict=True):
        with mpmath.workdps(30):
            exact = max(0, 1 - mpmath.exp((epsilon - 1 / mpmath.mpf(0.7)) / 2))
            if epsilon < -1 / 0.7:
                exact = 1 - mpmath.exp(mpmath.mpf(epsilon))
        assert ours == pytest.approx(float(exact), rel=1e-13, abs=1e-15)


def test_a_replaced_record_moves_twice_as_far():
    for kind in (Laplace, Gaussian):
        twice = dominating_pair(kind(1.0), "replace_one", "replace_one")
        half = dominating_pair(kind(0.5), "add_or_remove", "remove")
        np.testing.assert_allclose(delta_at(twice, EPSILONS), delta_at(half, EPSILONS), rtol=1e-12)


def exact_integral(pair, epsilon):
    """``int (p - e**epsilon q)_+`` over the line, in 30 digits, piece by piece."""

    def mixed(x, components, sign):
        left = 1 - mpmath.fsum(weight for _, weight in components)
        moved = [w * mpmath.exp(-abs(x - sign * s) / scale) for s, w in components]
        return (left * mpmath.exp(-abs(x) / scale) + mpmath.fsum(moved)) / (2 * scale)

    with mpmath.workdps(30):
        scale = mpmath.mpf(pair.noise_multiplier)

        def gain(x):
            p, q = mixed(x, pair.above, 1), mixed(x, pair.below, -1)
            return p - mpmath.exp(epsilon) * q

        low = -max((s for s, _ in pair.below), default=0.0)
        high = max((s for s, _ in pair.above), default=0.0)
        if gain(mpmath.mpf(high) + 1) <= 0:
            return mpmath.mpf(0)
        start = mpmath.mpf(low)
        if gain(start - 1) > 0:
            start = -mpmath.inf
        else:
            start = mpmath.findroot(gain, (low, high), solver="illinois", tol=1e-25)
        kinks = [x for x in range(math.floor(low), math.ceil(high) + 1) if x > start]
        return mpmath.quad(gain, [start, *kinks, mpmath.inf])


@pytest.mark.parametrize("name", ["sampled laplace", "replaced laplace", "laplace group"])
def test_sampled_laplace(name):
    pair = PAIRS[name]
    ours = delta_at(pair, EPSILONS)
    for epsilon, delta in zip(EPSILONS, ours, strict=True):
        assert delta == pytest.approx(float(exact_integral(pair, epsilon)), rel=1e-10, abs=1e-13)


def test_laplace_mass():
    ends = np.array([-np.inf, -50.0, -1e-9, 0.0, 1e-9, 0.5, 0.5 + 1e-12, 60.0, np.inf])
    with mpmath.workdps(40):

        def below(x):
            x = mpmath.mpf(x)
            return mpmath.exp(x) / 2 if x <= 0 else 1 - mpmath.exp(-x) / 2

        exact = [float(below(b) - below(a)) for a, b in pairwise(ends)]
    np.testing.assert_allclose(laplace_mass(ends), exact, rtol=1e-15)


def exact_sum(noise, above, below, epsilon, reach):
    with mpmath.workdps(40):
        weight = {
            "gaussian": lambda k: mpmath.exp(
                -(mpmath.mpf(k) ** 2) / (2 * mpmath.mpf(noise[1]) ** 2)
            ),
            "laplace": lambda k: mpmath.exp(-abs(k) * mpmath.mpf(noise[1])),
        }[noise[0]]
        whole = mpmath.fsum(weight(k) for k in range(-reach, reach + 1))

        def mixed(x, components, sign):
            left = 1 - mpmath.fsum(mpmath.mpf(w) for _, w in components)
            moved = [mpmath.mpf(w) * weight(x - sign * s) for s, w in components]
            return (left * weight(x) + mpmath.fsum(moved)) / whole

        price = mpmath.exp(mpmath.mpf(epsilon))
        gains = [mixed(x, above, 1) - price * mixed(x, below, -1) for x in range(-reach, reach + 1)]
        return mpmath.fsum(max(gain, 0) for gain in gains)


@pytest.mark.parametrize(
    ("noise", "ours"),
    [
        (("gaussian", 2.5), DiscreteGaussianNoise(2.5)),
        (("laplace", 0.5), DiscreteLaplaceNoise(0.5)),
    ],
    ids=["gaussian", "laplace"],
)
@pytest.mark.parametrize(
    ("above", "below"),
    [
        (((1, 1.0),), ()),
        (((3, 1.0),), ()),
        (((1, 0.1),), ()),
        ((), ((2, 0.25),)),
        (((1, 0.5), (2, 0.25)), ((1, 0.25),)),
    ],
)
def test_integers_against_sums(noise, ours, above, below):
    pair = IntegerMixture(ours, above, below)
    for epsilon, delta in zip(EPSILONS, delta_at(pair, EPSILONS), strict=True):
        exact = exact_sum(noise, above, below, epsilon, 150)
        assert delta == pytest.approx(float(exact), rel=1e-12, abs=1e-15)


def test_discrete_gaussian_with_little_steps_is_the_gaussian():
    discrete = dominating_pair(DiscreteGaussian(500.0, 250), "add_or_remove", "remove")
    smooth = dominating_pair(Gaussian(2.0), "add_or_remove", "remove")
    np.testing.assert_allclose(delta_at(discrete, EPSILONS), delta_at(smooth, EPSILONS), rtol=2e-2)


def test_discrete_laplace_is_randomized_response_where_it_moves_by_one():
    """Sensitivity 1: the loss is +-decay, as for any pure DP of that epsilon."""
    discrete = dominating_pair(DiscreteLaplace(0.7, 1), "add_or_remove", "remove")
    pure = dominating_pair(PureDP(0.7), "add_or_remove", "remove")
    np.testing.assert_allclose(delta_at(discrete, EPSILONS), delta_at(pure, EPSILONS), atol=1e-15)


@settings(max_examples=50)
@given(st.floats(1e-3, 20), st.floats(-0.999, 0.999))
def test_bounded_range_is_the_worst_of_its_mechanisms(eta, where):
    epsilon = where * eta
    ours = delta_at(BoundedRange(eta), [epsilon])[0]

    def one_mechanism(top):
        likely = -math.expm1(top - eta) / -math.expm1(-eta)  # P(loss = top)
        gain = likely * -math.expm1(epsilon - top)
        if epsilon < top - eta:
            gain += (1 - likely) * -math.expm1(epsilon - top + eta)
        return max(gain, 0.0)

    worst = max(one_mechanism(top) for top in np.linspace(0, eta, 2001))
    assert worst <= ours * (1 + 1e-12) + 1e-15
    assert one_mechanism((eta + epsilon) / 2) == pytest.approx(ours, rel=1e-9, abs=1e-14)


def test_real_exponential_mechanisms_stay_below():
    """Scores of random data sets; the loss of every choice, both ways round."""
    random = np.random.default_rng(1)
    pair = dominating_pair(ExponentialMechanism(1.5), "add_or_remove", "remove")
    epsilons = np.linspace(-1.4, 1.4, 29)
    bound = delta_at(pair, epsilons)
    for _ in range(300):
        scores = random.normal(size=5) * 3
        changed = scores + random.choice([-1.0, 1.0, 0.0, 0.4], size=5)
        p, q = (np.exp(1.5 * s / 2) / np.exp(1.5 * s / 2).sum() for s in (scores, changed))
        curve = np.maximum(p[:, None] - np.exp(epsilons) * q[:, None], 0).sum(0)
        assert (curve <= bound + 1e-12).all()


@pytest.mark.parametrize("values", [2, 3, 10])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.9])
def test_randomized_response_against_the_list_of_its_answers(values, probability):
    event = RandomizedResponse(probability, values)
    true, other = np.full((2, values), probability / values)
    true[0] += 1 - probability
    other[1] += 1 - probability
    uniform = np.full(values, 1 / values)
    cases = [
        ("replace_one", "replace_one", true, other),
        ("zero_out", "remove", true, uniform),
        ("zero_out", "add", uniform, true),
    ]
    for relation, order, p, q in cases:
        ours = delta_at(dominating_pair(event, relation, order), EPSILONS)
        exact = np.maximum(p[:, None] - np.exp(EPSILONS) * q[:, None], 0).sum(0)
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-15)


def test_promises():
    for epsilon, delta in ((0.7, 0.0), (0.7, 1e-3), (30.0, 1e-9)):
        pair = dominating_pair(ApproxDP(epsilon, delta), "add_or_remove", "remove")
        at, over = delta_at(pair, [epsilon, epsilon + 1e-9])
        half = delta_at(pair, [0.0])[0]
        assert at == pytest.approx(delta, abs=1e-15)
        assert over == pytest.approx(delta, abs=1e-15)
        assert half == pytest.approx(delta + (1 - delta) * math.tanh(epsilon / 2), rel=1e-13)


@pytest.mark.parametrize(
    "event",
    [
        NonPrivate(),
        PureDP(math.inf),
        ApproxDP(math.inf, 0.0),
        ExponentialMechanism(math.inf),
        Gaussian(0.0),
        Laplace(0.0),
        DiscreteGaussian(0.0, 1),
        DiscreteLaplace(math.inf, 1),
        MixtureOfGaussians(0.0, (1.0,), (1.0,)),
    ],
    ids=repr,
)
def test_without_noise_the_record_shows_whenever_it_is_read(event):
    assert delta_at(dominating_pair(event, "add_or_remove", "remove"), EPSILONS) == pytest.approx(1)
    large = np.array([0.5, 3.0, 30.0])
    for order, expected in (("remove", np.full(3, 0.25)), ("add", np.zeros(3))):
        pair = dominating_pair(Poisson(0.25, event), "add_or_remove", order)
        np.testing.assert_allclose(delta_at(pair, large), expected, atol=1e-15)


def test_groups_add_up():
    cases = [
        (Group(3, Gaussian(3.0)), Gaussian(1.0)),
        (Group(3, Laplace(3.0)), Laplace(1.0)),
        (Group(3, DiscreteLaplace(0.5, 2)), DiscreteLaplace(0.5, 6)),
        (Group(3, DiscreteGaussian(9.0, 1)), DiscreteGaussian(9.0, 3)),
        (Group(3, PureDP(0.3)), PureDP(0.3 * 3)),
        (Group(3, ExponentialMechanism(0.3)), ExponentialMechanism(0.3 * 3)),
    ]
    for group, one in cases:
        ours, exact = (
            delta_at(dominating_pair(event, "add_or_remove", "remove"), EPSILONS)
            for event in (group, one)
        )
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-14)


def test_a_group_under_approximate_dp_pays_for_every_step_between():
    pair = dominating_pair(Group(3, ApproxDP(0.5, 1e-6)), "add_or_remove", "remove")
    expected = 1e-6 * (1 + math.exp(0.5) + math.exp(1.0))
    assert delta_at(pair, [1.5 + 1e-9])[0] == pytest.approx(expected, rel=1e-9)


def test_orders_with_one_curve_are_composed_once():
    for event in (Laplace(1.0), PureDP(1.0), Gaussian(1.0), ExponentialMechanism(1.0)):
        assert len(pairs(event * 3 + event, "add_or_remove")) == 1
    assert len(pairs(Poisson(0.1, Laplace(1.0)), "add_or_remove")) == 2
    assert pairs(Laplace(1.0) * 3 + Laplace(1.0), "remove")[0][0][1] == 4


def test_too_wide_a_discrete_gaussian_is_refused():
    with pytest.raises(ValueError, match="account a discrete Gaussian that wide as ZCDP"):
        dominating_pair(DiscreteGaussian(1e9, 1), "add_or_remove", "remove")


def test_weights_that_average():
    pure, loose = approximate_dp(0.5, 0.0), approximate_dp(2.0, 0.0)
    both = either([(0.25, pure), (0.5, loose)])
    assert isinstance(both, FiniteLoss)
    expected = 0.25 * delta_at(pure, EPSILONS) + 0.5 * delta_at(loose, EPSILONS)
    expected += 0.25 * np.maximum(0, 1 - np.exp(EPSILONS))
    np.testing.assert_allclose(delta_at(both, EPSILONS), expected, rtol=1e-12, atol=1e-15)


LOSSES = {
    "pure": 0.7,
    "approximate": math.inf,
    "range": 1.3,
    "laplace": 0.5,
    "sampled laplace": math.log1p(0.01 * math.expm1(2.0)),
    "discrete laplace": 1.5,
    "discrete gaussian": math.inf,
    "sampled range": math.log1p(0.1 * math.expm1(1.3)),
    "added range": -math.log(0.9),
    "symmetric": math.log1p(0.1 * math.expm1(1.3)),
    "either": 1.0,
}


@pytest.mark.parametrize(("name", "expected"), LOSSES.items())
def test_largest_losses(name, expected):
    largest = largest_loss(PAIRS[name])
    assert largest == pytest.approx(expected, rel=1e-12)
    assert largest >= expected
    if expected < math.inf and name != "added range":
        at, under = delta_at(PAIRS[name], [largest * 0.99, largest])[::-1]
        assert at == 0.0
        assert under > 0.0


@pytest.mark.parametrize(
    ("event", "relation", "expected"),
    [
        (Gaussian(1.0), "add_or_remove", True),
        (PureDP(1.0), "add_or_remove", True),
        (ExponentialMechanism(1.0), "add_or_remove", False),
        (Poisson(0.1, Laplace(1.0)), "replace_one", True),
        (Poisson(0.1, PureDP(1.0)), "add_or_remove", True),
        (Poisson(0.1, PureDP(1.0)), "replace_one", False),
        (Poisson(0.1, ExponentialMechanism(1.0)), "add_or_remove", False),
        (Group(2, Poisson(0.1, Gaussian(1.0))), "remove", True),
        (Group(2, PureDP(1.0)), "remove", False),
        (WithoutReplacement(1, 9, Gaussian(1.0)), "remove", True),
        (WithoutReplacement(1, 9, Gaussian(1.0)), "replace_one", False),
        (WithReplacement(1, 9, Gaussian(1.0)), "add", True),
        (TruncatedPoisson(0.1, 3, 9, Gaussian(1.0)), "remove", False),
        (Shuffled(Gaussian(1.0)), "replace_one", False),
    ],
    ids=repr,
)
def test_which_pairs_are_those_of_data_sets(event, relation, expected):
    assert is_attained(event, relation) == expected
