"""Two engines with nothing in common but the pair must agree, with each other and the truth."""

import math

import mpmath
import numpy as np
import pytest

from dpfunc import accounting
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.contour.decay import decay
from dpfunc.accounting.engines.contour.moments import integrand, moments
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.events.algebra import Compose, Repeat
from dpfunc.accounting.events.dp_sgd import dp_sgd
from dpfunc.accounting.events.mechanisms import Gaussian, NonPrivate
from dpfunc.accounting.events.schemes import Poisson
from dpfunc.accounting.pairs import single
from dpfunc.accounting.pairs.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import Cells

PAIRS = [
    GaussianMixture(1.0, above=((1.0, 0.01),)),
    GaussianMixture(0.6, below=((1.0, 0.05),)),
    GaussianMixture(2.0, above=((1.0, 0.05),), below=((1.0, 0.05),)),
    GaussianMixture(4.0, above=((1.0, 0.02), (2.0, 1e-4))),
]
EACH = pytest.mark.parametrize("pair", PAIRS, ids=["remove", "add", "replace", "group"])
EVENTS = [
    dp_sgd(noise_multiplier=1.0, sample_rate=0.02, steps=500),
    dp_sgd(noise_multiplier=3.0, sample_rate=0.25, steps=100),
    Compose((Repeat(Poisson(0.05, Gaussian(1.5)), 200), Repeat(Gaussian(20.0), 3))),
]


def exact_moment(pair, z):
    """``M(z) - 1`` by 40 digits."""
    with mpmath.workdps(40):
        sigma = mpmath.mpf(pair.noise_multiplier)

        def density(y, components):
            left = 1 - mpmath.fsum(mpmath.mpf(w) for _, w in components)
            places = [(mpmath.mpf(s) / sigma, mpmath.mpf(w)) for s, w in components]
            return left + mpmath.fsum(w * mpmath.exp(p * y - p * p / 2) for p, w in places)

        def f(y):
            return mpmath.npdf(y) * mpmath.exp(
                (1 + z) * mpmath.log(density(y, pair.above))
                - z * mpmath.log(density(-y, pair.below))
            )

        h = mpmath.mpf(1) / 32
        return h * mpmath.fsum(f(k * h) for k in range(-480, 800)) - 1


@EACH
@pytest.mark.parametrize("c", [0.3, 4.0])
def test_moments_lie_within_their_error(pair, c):
    t = np.array([0.0, 1.0, 7.0])
    ours = moments(pair, c, t, 1e-18)
    for i in range(3):
        off = abs(mpmath.mpc(complex(ours.excess[i])) - exact_moment(pair, mpmath.mpc(c, t[i])))
        assert off <= ours.error[i]
        assert ours.error[i] < 1e-10


@EACH
def test_atoms_enclose_the_pair(pair):
    """delta of one release, exactly, between the two laws cut down to a coarse lattice."""
    nodes = np.arange(-60, 400) * 0.02
    above, below = upper_atoms(pair, nodes), lower_atoms(pair, nodes)
    assert above.p.sum() + above.infinite >= 1 - 1e-14
    assert below.p.sum() <= 1 + 1e-14
    for epsilon in (0.0, 0.011, 0.1, 1.003):
        lower, upper = single.log_delta_interval(pair, epsilon)

        def delta(atoms, epsilon=epsilon):
            gain = np.maximum(0.0, -np.expm1(np.minimum(epsilon - atoms.losses, 0.0)))
            return atoms.p @ gain + atoms.infinite

        assert delta(above) >= math.exp(lower) * (1 - 1e-12)
        assert delta(below) <= math.exp(upper) * (1 + 1e-12)
        assert delta(above) - delta(below) < 5e-3


@EACH
@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
def test_the_bounds_on_decay_hold_on_a_finer_grid_and_are_close(pair, c):
    found = decay(pair, c)
    most = sum(max((s for s, _ in side), default=0.0) for side in (pair.above, pair.below))
    most /= pair.noise_multiplier
    step = min(0.05, 0.5 / math.sqrt(1 + (1 + 2 * c) * most**2 / 4 + 2 * most**2))  # as it has it
    nodes, fine = integrand(pair, c, step).y, integrand(pair, c, step / 16)
    f = fine.weight * np.exp(fine.exponent)
    f /= f.sum()
    loss = fine.log_a - fine.log_b
    spread = math.sqrt(f @ (loss - f @ loss) ** 2)
    assert spread <= found.spread <= 1.05 * spread
    up_to = np.interp(nodes + step / 2, fine.y + step / 32, np.cumsum(f))
    left, right = found.mass[: len(nodes)], found.mass[len(nodes) :]
    for exact, bound in ((up_to, left), (1 - up_to, right)):
        assert (exact <= bound + 1e-13).all()
        assert (bound <= 1.1 * exact + 1e-8).all()
    counts = f > 1e-14
    f, y = f[counts], fine.y[counts]
    g = f / fine.step / np.gradient(loss[counts], y)
    beyond = np.cumsum(np.abs(np.diff(g))[::-1])[::-1]  # of the variation
    from_node = np.interp(nodes, y[:-1], beyond)
    assert (from_node <= found.variation[: len(nodes)] + 1e-6 * beyond[0]).all()


class Blurred:
    """A pair whose cells are as wrong as they say, in the direction that would raise delta."""

    def __init__(self, pair, relative):
        self.pair, self.relative = pair, relative

    def cells(self, nodes):
        p, r, *_, shift = self.pair.cells(nodes)
        off = 1e-15 + self.relative * np.maximum(p, r)
        return Cells(p + off, np.maximum(r - off, 0.0), off, off, shift)


@EACH
@pytest.mark.parametrize("relative", [1e-11, 1e-5, 1e-3, 0.03])
def test_uncertain_cells_are_kept_from_below_and_prove_too_little_never_too_much(pair, relative):
    nodes = np.arange(-60, 400) * 0.02
    sharp, blurred = lower_atoms(pair, nodes), lower_atoms(Blurred(pair, relative), nodes)
    assert blurred.shift < 1e-8
    for epsilon in (0.0, 0.011, 0.1, 1.003):
        exact = math.exp(single.log_delta_interval(pair, epsilon)[1])
        known, proven = (
            atoms.p @ np.maximum(0.0, -np.expm1(epsilon - (atoms.losses - atoms.shift)))
            for atoms in (sharp, blurred)
        )
        assert proven <= exact * (1 + 1e-12)
        assert proven >= known - 8 * relative - 1e-8


@pytest.mark.parametrize("event", EVENTS, ids=["dp_sgd", "high rate", "mixed"])
@pytest.mark.parametrize("delta", [1e-12, 1e-5])
def test_the_contour_lies_within_the_lattice(event, delta):
    for composition in pairs(event, "add_or_remove"):
        inner = contour.epsilon_interval(composition, math.log(delta), contour.THOROUGH)
        outer = lattice.epsilon_interval(composition, math.log(delta), 1e-4)
        assert outer[0] <= inner[0] <= inner[1] <= outer[1]
        assert inner[1] - inner[0] <= 1e-9 * inner[1]
        assert outer[1] - outer[0] <= 1e-4 * outer[1]


def test_a_finer_lattice_lies_within_the_coarser():
    composition = pairs(EVENTS[0], "remove")[0]
    coarse, fine = (lattice.epsilon_interval(composition, math.log(1e-6), t) for t in (1e-3, 1e-4))
    assert coarse[0] <= fine[0] <= fine[1] <= coarse[1]


@pytest.mark.parametrize("event", EVENTS[:2], ids=["dp_sgd", "high rate"])
def test_epsilon_and_delta_invert_each_other(event):
    for composition in pairs(event, "add_or_remove"):
        _, upper = contour.epsilon_interval(composition, math.log(1e-6), contour.THOROUGH)
        low, high = contour.log_delta_interval(composition, upper, contour.THOROUGH)
        assert low <= high
        assert (low + high) / 2 == pytest.approx(math.log(1e-6), abs=1e-9)


def test_one_release_against_sixty_digits():
    """``P(x > cut) - e**epsilon Q(x > cut)`` with the cut in closed form."""
    sigma, q = 0.8, 0.05
    pair = GaussianMixture(sigma, above=((1.0, q),))
    with mpmath.workdps(60):
        for epsilon in (0.0, 0.3, 2.0, 6.0):
            s, rate, e = mpmath.mpf(sigma), mpmath.mpf(q), mpmath.mpf(epsilon)
            cut = s * s * mpmath.log((mpmath.exp(e) - 1 + rate) / rate) + mpmath.mpf(1) / 2
            p = (1 - rate) * mpmath.ncdf(-cut / s) + rate * mpmath.ncdf((1 - cut) / s)
            exact = mpmath.log(p - mpmath.exp(e) * mpmath.ncdf(-cut / s))
            lower, upper = single.log_delta_interval(pair, epsilon)
            assert lower <= exact <= upper
            assert upper - lower < 1e-9


def test_monte_carlo_is_below_the_upper_end():
    """Losses drawn from P itself: what they show of delta, less five standard errors."""
    event = dp_sgd(noise_multiplier=1.0, sample_rate=0.1, steps=60)
    (pair, times) = pairs(event, "remove")[0][0]
    rng = np.random.default_rng(5)
    y = rng.standard_normal((20_000, times))
    y += (rng.random(y.shape) < 0.1) / pair.noise_multiplier
    loss = pair.loss(y.ravel()).reshape(y.shape).sum(axis=1)
    seen = np.maximum(0.0, -np.expm1(1.5 - loss))
    error = 5 * seen.std() / math.sqrt(len(seen))
    lower, upper = lattice.log_delta_interval(pairs(event, "remove")[0], 1.5, 1e-4)
    assert seen.mean() - error <= math.exp(upper)
    assert seen.mean() + error >= math.exp(lower)
    # A direction swapped or a rate of 1 - q would be far outside.
    assert error < 0.2 * math.exp(lower)


def test_relations_differ_as_they_should():
    """Replacement costs most: its value was computed on cells of the noise axis, independently."""
    event = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    found = {
        relation: max(
            contour.epsilon_interval(c, math.log(1e-5), contour.THOROUGH)[1]
            for c in pairs(event, relation)
        )
        for relation in ("add", "remove", "add_or_remove", "zero_out", "replace_one")
    }
    assert found["replace_one"] == pytest.approx(2.8434402, abs=1.5e-6)
    assert found["add"] < found["remove"] == found["add_or_remove"] == found["zero_out"]


@pytest.mark.parametrize(("rate", "times", "delta"), [(1e-7, 10, 1e-3), (1e-3, 10, 0.05)])
def test_a_loss_that_is_one_number_or_infinite(rate, times, delta):
    """Read without noise or not at all, and a Gaussian release: both orders in closed form."""
    gaussian, silent = Gaussian(5.0), times * math.log1p(-rate)
    event = Poisson(rate, NonPrivate()) * times + gaussian

    def exact(epsilon):
        never = math.exp(silent)
        removed = 1 - never + never * accounting.delta(gaussian, epsilon=epsilon - silent)
        return max(removed, accounting.delta(gaussian, epsilon=max(0.0, epsilon + silent)))

    lower, upper = accounting.epsilon_bounds(event, delta=delta, tol=1e-3)
    assert exact(upper) <= delta * (1 + 1e-9)
    assert exact(upper * (1 - 1e-3)) > delta
    assert exact(lower) >= delta * (1 - 1e-9)
    assert upper - lower <= 1e-3 * upper
