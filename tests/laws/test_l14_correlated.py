"""L14: correlated noise is a function of the Gaussian mechanism of real numbers, and of no more.

The oracles read the documented format of the random bits (`exact_release`), compute with fractions
and 120 digits, and call nothing of `dpfunc.noise`.
"""

import io
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc import correlated
from dpfunc.noise import feedback, regenerated
from dpfunc.noise.kernels import by_numba, by_torch, combined, combined_by_numba
from dpfunc.strategies.records import matrix
from dpfunc.types import Summed
from tests.laws import exact_release
from tests.laws.matrix import DEVICES

STEPS, ITEMS, S, BOUND = 9, 40, 1.7, 0.6
FEEDBACK = {
    "banded": correlated.banded(steps=STEPS, bands=4),
    "square root": correlated.square_root(steps=STEPS),
    "signs": correlated.Toeplitz(STEPS, (1.0, -0.5, 0.25, 0.75)),
    "identity": correlated.identity(steps=STEPS),
}
AGAIN = {
    "fractional": correlated.fractional(steps=STEPS, bands=4, exponent=0.8),
    "lambda": correlated.lambda_cgd(steps=STEPS, lambda_=0.7),
}
BUFFERS = {"buffered": correlated.Buffered(STEPS, (0.9, 0.4), (0.5, 0.3))}
ALL = FEEDBACK | AGAIN | BUFFERS


@pytest.fixture(autouse=True, params=["torch", "compiled"])
def kernel(request, monkeypatch):
    """Every law by the torch operations and by the compiled kernels."""
    if request.param == "torch":
        for module in (feedback, regenerated):
            monkeypatch.setattr(module, "available", lambda: False)
    elif not by_numba.available():
        pytest.skip("numba is not installed")
    return request.param


def sums(step, dtype=torch.float32, items=ITEMS):
    """Other data in every step, of all sizes."""
    row = torch.linspace(-3, 2, items, dtype=torch.float64) * (step % 3)
    return (row.exp() * (1 - step % 2 * 2) * 0.37).to(dtype)


def run(strategy, data, key=3, device="cpu"):
    """The releases of all steps: ``[steps, items]``, float64."""
    noise = dp.CorrelatedNoise(S, strategy, key=dp.key(key))
    state, out = noise.init({"w": data[0]}), []
    for value in data:
        noisy, state = noise.add(Summed({"w": value.to(device)}, BOUND), state)
        out.append(noisy["w"].double().cpu())
    return torch.stack(out)


def widening(strategy):
    errors = 1 if isinstance(strategy, correlated.InverseToeplitz) else 2
    return 1 + errors * 2.0**-10


def deviation(strategy):
    return S * correlated.column_norm(strategy) * BOUND * widening(strategy)


def coarse(strategy):
    return 2.0 ** math.floor(math.log2(deviation(strategy))) * 2.0**-6


def fine():
    return 2.0 ** math.floor(math.log2(2.0**-10 * BOUND / math.sqrt(ITEMS)))


def step_key(step, key=3):
    return dp.fold_in(dp.fold_in(dp.key(key), "correlated noise"), step)


def real_normal(strategy, step, item):
    """``v`` of a step, 120 digits."""
    return mpmath.mpf(deviation(strategy)) * exact_release.normal(step_key(step), item)


def fraction(value):
    return mpmath.mpf(value.numerator) / value.denominator


def rounded(real, grid):
    return Fraction(int(mpmath.floor(real / grid + mpmath.mpf(0.5)))) * Fraction(grid)


def on_fine_grid(value):
    return Fraction(round(Fraction(value) / Fraction(fine()))) * Fraction(fine())


@pytest.mark.parametrize("name", FEEDBACK)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_release_is_a_function_of_the_real_gaussian_mechanism(name, dtype):
    """C2 and C3: ``y_t = round(U_t - sum c_i y_{t-i})`` with ``U = C R + v``, bit for bit."""
    strategy = FEEDBACK[name]
    data = [sums(step, dtype) for step in range(STEPS)]
    ours, c = run(strategy, data), [Fraction(x) for x in strategy.coefficients]
    grid = coarse(strategy)
    with mpmath.workdps(120):
        for item in range(0, ITEMS, 5):
            r, y = [], []
            for t in range(STEPS):
                r.append(on_fine_grid(float(data[t][item])))
                past = range(1, min(t + 1, len(c)))
                u = r[t] + sum(c[i] * r[t - i] for i in past)
                known = u - sum(c[i] * y[t - i] for i in past)
                y.append(rounded(fraction(known) + real_normal(strategy, t, item), grid))
                assert ours[t, item] == torch.tensor(float(y[t]), dtype=dtype).double(), (t, item)


@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_regenerated_noise_is_rounded_once_and_correctly(name, dtype):
    """C2: ``round(S + sum d_i v_{t-i})``, a function of ``D (C S + v)``."""
    strategy, data = AGAIN[name], [sums(step, dtype) for step in range(STEPS)]
    ours = run(strategy, data)
    with mpmath.workdps(120):
        for item in range(0, ITEMS, 5):
            for t in range(STEPS):
                real = mpmath.mpf(float(data[t][item]))
                for i, d in enumerate(strategy.coefficients[: t + 1]):
                    real += mpmath.mpf(d) * real_normal(strategy, t - i, item)
                exact = float(rounded(real, coarse(strategy)))
                assert ours[t, item] == torch.tensor(exact, dtype=dtype).double(), (t, item)


@pytest.mark.parametrize("name", ALL)
def test_what_is_left_of_the_noise_is_independent(name):
    """C1: C times the releases without data is white, of the promised deviation."""
    items, strategy = 6000, ALL[name]
    zeros = [torch.zeros(items)] * STEPS
    white = matrix(strategy) @ run(strategy, zeros).numpy() / deviation(strategy)
    covariance = white @ white.T / items
    assert np.abs(covariance - np.eye(STEPS)).max() < 5.5 * (2 / items) ** 0.5
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-4
    left = np.cumsum(run(strategy, zeros).numpy(), axis=0).var(axis=1)  # C13
    assert left == pytest.approx(correlated.errors(strategy) * deviation(strategy) ** 2, rel=0.12)


def naive(value, game):
    """``S + C^-1 xi`` with whole xi of deviation 1000: what lattice noise through a matrix is."""
    xi = [dp.rounded_normal(dp.fold_in(dp.key(game), t), (1,), scale=1000.0).double() for t in "ab"]
    return value + xi[0], xi[1] - 0.375 * xi[0]


def test_the_attack_sees_through_rounded_noise_of_a_matrix_and_not_through_ours():
    """C4: ``(y2 + .375 y1) mod 1`` is the first sum times .375, always; ours tells nothing."""
    for present in (0.0, 1.0):
        found = {float((y2 + 0.375 * y1) % 1) for y1, y2 in (naive(present, g) for g in range(40))}
        assert found == {0.375 * present}
    strategy, items = correlated.Toeplitz(2, (1.0, 0.375)), 20_000
    grid, counts = coarse(strategy), []
    for key, present in ((5, 0.0), (6, 0.6 / 7)):  # no multiple of any grid
        data = [torch.full((items,), present), torch.zeros(items)]
        y1, y2 = run(strategy, data, key=key) / grid
        residues = ((y2 + 0.375 * y1) % 1 * 8).long()
        counts.append(residues.bincount(minlength=8).numpy())
    assert stats.chi2_contingency(np.array(counts)).pvalue > 1e-4
    assert (np.array(counts) > items / 16).all()


@pytest.mark.parametrize("name", ALL)
def test_a_run_goes_on_from_a_saved_state_bit_for_bit(name):
    """C6: every step again from what torch.save keeps, by a mechanism that remembers nothing."""
    strategy, data = ALL[name], [sums(step) for step in range(STEPS)]
    whole, noise = run(strategy, data), dp.CorrelatedNoise(S, strategy, key=dp.key(3))
    state = noise.init({"w": data[0]})
    for t, value in enumerate(data):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        again = dp.CorrelatedNoise(S, strategy, key=dp.key(3))
        loaded = again.resume(loaded, key=dp.key(3))
        noisy, _ = again.add(Summed({"w": value}, BOUND), loaded)
        assert torch.equal(noisy["w"].double(), whole[t])
        _, state = noise.add(Summed({"w": value}, BOUND), state)


@pytest.mark.parametrize("name", [n for n in ALL if n not in (*AGAIN, "identity")])
def test_a_state_tells_nothing_about_the_noise(name):
    """What is kept is bits of another stream for each tensor; the release less it is no sum."""
    noise = dp.CorrelatedNoise(S, ALL[name], key=dp.key(3))
    state, zeros = noise.init({"w": torch.zeros(4000)}), torch.zeros(4000)
    for _ in range(3):
        _, state = noise.add(Summed({"w": zeros}, BOUND), state)
    words = [entry["words"]["w"] for entry in state["memory"]]
    assert len(words) == (2 if name == "buffered" else 3)
    for i, word in enumerate(words):
        for other in [torch.zeros_like(word), *words[:i]]:
            raw = np.unpackbits((word ^ other).numpy().view(np.uint8))
            assert abs(raw.mean() - 0.5) < 5 * 0.5 / len(raw) ** 0.5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ALL)
def test_the_same_on_every_device_and_whatever_the_order_and_shape_of_parameters(name, device):
    strategy = ALL[name]
    noise = dp.CorrelatedNoise(S, strategy, key=dp.key(3))
    data = [sums(step) for step in range(4)]
    whole = run(strategy, data)
    parts = [{"b": d[7:].view(3, 11).to(device), "a": d[:7].to(device)} for d in data]
    state = noise.init(parts[0])
    for t, part in enumerate(parts):
        noisy, state = noise.add(Summed(part, BOUND), state)
        row = torch.cat([noisy["a"], noisy["b"].flatten()]).double().cpu()
        assert torch.equal(row, whole[t])


@pytest.mark.parametrize("by", ["cells", "intervals"])
def test_how_a_number_was_decided_changes_nothing(by, kernel, monkeypatch):
    """All by cells of the words, then many by interval arithmetic."""
    strategy, data = (
        AGAIN["fractional"],
        [sums(t, items=200_000 if by == "cells" else 3000) for t in range(3)],
    )
    quick = run(strategy, data)
    for module in (combined, by_torch):
        monkeypatch.setattr(module, "BOUND", (math.inf, math.inf))  # nothing is decided by it
    if by == "intervals" and kernel == "compiled":
        monkeypatch.setattr(combined_by_numba, "ERROR", 2.0**-14)  # cells leave many open
    elif by == "intervals":
        real = combined._ends

        def wider(radius, angle, sides, scale):
            unknown = np.where(radius % 64 == 0, math.inf, 0.0)
            low, high = real(radius, angle, sides, scale)
            return low - unknown, high + unknown

        monkeypatch.setattr(combined, "_ends", wider)
    assert torch.equal(run(strategy, data), quick[: len(data)])


def test_digits_are_exact_at_the_limit_that_is_let_through():
    """`scales` lets no noise through whose multiples float64 would round."""
    strategy = correlated.Toeplitz(64, (1.0, 0.5 + 2.0**-29))
    with pytest.raises(ValueError, match="products have at most 53 bits"):
        feedback.scales(strategy, 4.0, 1.0, 10**9)
    found = feedback.scales(correlated.banded(steps=64, bands=16), 4.0, 1.0, 10**9)
    strategy = correlated.banded(steps=64, bands=16)
    total = sum(map(abs, strategy.coefficients)) * found.most + found.coarse / found.fine
    assert total * 2**16 <= 2**53
    assert found.fine * math.sqrt(1e9) <= 2.0**-10
    with pytest.raises(ValueError, match="bits=16"):
        feedback.scales(correlated.banded(steps=64, bands=4, bits=None), 1.0, 1.0, 10)


def test_rounding_of_buffers_is_below_its_bound():
    """Against fractions, over a long run of large noise."""
    strategy = correlated.Buffered(200, (0.97, 0.6), (0.6, 0.3))
    found = feedback.scales(strategy, 1.0, 1.0, 100)
    draw = np.random.default_rng(1)
    memory, exact, worst = [], [Fraction(0)] * 2, 0.0
    for _ in range(150):
        n = int(found.most * draw.uniform(0.7, 1))  # of one sign: buffers as large as can be
        noise = {"w": torch.tensor([n])}
        memory = feedback.remembered(strategy, memory, noise)
        exact = [Fraction(theta) * s + n for theta, s in zip(strategy.decays, exact, strict=True)]
        a = sum(Fraction(w) * s for w, s in zip(strategy.weights, exact, strict=True))
        ours = feedback._taken_back(strategy, memory, "w", slice(0, 1))
        worst = max(worst, abs(float(Fraction(float(ours)) - a)) * found.fine)
    assert 0 < worst <= feedback.rounding_of_buffers(strategy, found, 1.0)
    slow = correlated.Buffered(2048, (0.9999,), (0.5,))
    with pytest.raises(ValueError, match="rounding in float64"):
        feedback.scales(slow, 4.0, 1.0, 10**7)


def test_sums_that_are_not_finite_stay_and_harm_no_later_step():
    strategy = FEEDBACK["banded"]
    data = [torch.tensor([math.nan, math.inf, -math.inf, 1e30]), *[torch.zeros(4)] * 3]
    out = run(strategy, data)
    assert out[0, 0].isnan()
    assert out[0, 1:3].tolist() == [math.inf, -math.inf]
    assert out[0, 3] == float(torch.tensor(1e30))
    assert out[1:].isfinite().all()


def refused(words, call, error=ValueError):
    with pytest.raises(error, match=words):
        call()


def test_what_is_refused_before_anything_is_released():
    strategy = FEEDBACK["banded"]
    noise = dp.CorrelatedNoise(S, strategy, key=dp.key(3))
    params = {"w": torch.zeros(4)}
    start = noise.init(params)
    _, state = noise.add(Summed(params, BOUND), start)
    add = lambda *args: noise.add(*args)  # noqa: E731  # a name for what is refused
    refused("the bound of the steps before", lambda: add(Summed(params, 0.61), state))
    other = {"w": torch.zeros(5)}
    refused("the parameters of the steps", lambda: add(Summed(other, BOUND), state))
    refused("finite L2 bound", lambda: add(Summed(params, math.inf), start))
    lost = {**state, "memory": []}
    refused("memory of 1 earlier", lambda: add(Summed(params, BOUND), lost))
    foreign = dp.CorrelatedNoise(S + 1, strategy, key=dp.key(3)).init(params)
    refused("a state of this key", lambda: add(Summed(params, BOUND), foreign))
    refused("the key of the run", lambda: noise.resume(state, key=dp.key()))
    refused("expected a Summed", lambda: add(params, state), TypeError)
    whole = {"w": torch.zeros(4, dtype=torch.int64)}
    refused("real floating-point", lambda: add(Summed(whole, BOUND), start), TypeError)
    refused(
        "banded, fractional or buffered",
        lambda: dp.CorrelatedNoise(S, correlated.dense(steps=3), key=dp.key(3)),
        TypeError,
    )
    refused("noise_multiplier >= 0", lambda: dp.CorrelatedNoise(-1.0, strategy, key=dp.key(3)))
    refused("key=dpfunc.key", lambda: dp.CorrelatedNoise(S, strategy, key=3), TypeError)
    refused("CyclicPoisson", lambda: noise.event(state, sample_rate=0.1))
    for _ in range(STEPS - 1):
        _, state = noise.add(Summed(params, BOUND), state)
    refused("at most 9 steps", lambda: add(Summed(params, BOUND), state))


def test_one_band_has_the_event_of_independent_noise():
    """C11."""
    noise = dp.CorrelatedNoise(S, FEEDBACK["identity"], key=dp.key(3))
    params = {"w": torch.zeros(4)}
    _, state = noise.add(Summed(params, BOUND), noise.init(params))
    expected = dp.accounting.dp_sgd(noise_multiplier=S, sample_rate=0.1, steps=1)
    assert noise.event(state, sample_rate=0.1) == expected


@pytest.mark.parametrize("name", ALL)
def test_a_private_step_uses_it_and_leaves_no_sum(name):
    strategy = ALL[name]
    noise = dp.CorrelatedNoise(S, strategy, key=dp.key(3))
    data, state = {"w": torch.ones(4, 3)}, noise.init({"w": torch.ones(4, 3)})
    expected, _ = noise.add(Summed(data, BOUND), state)
    noisy, _ = noise.add_(Summed(data, BOUND), state)
    assert torch.equal(noisy["w"], expected["w"])
    assert not data["w"].any()
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] @ x).sum(),
        clip=dp.Clip(1.0),
        noise=noise,
        expected_batch_size=2,
    )
    params = {"w": torch.zeros(4, 3)}
    state = private.init(params)
    for step in range(3):
        grads, state, _ = private.update(params, torch.ones(step, 3), state)
        assert grads["w"].shape == (4, 3)
    assert state["noise"]["step"] == 3


def test_without_noise_the_sum_stays():
    noise = dp.CorrelatedNoise(0.0, FEEDBACK["banded"], key=dp.key(3))
    params = {"w": torch.ones(4)}
    state = noise.init(params)
    for _ in range(3):
        noisy, state = noise.add(Summed(params, math.inf), state)
        assert torch.equal(noisy["w"], params["w"])
