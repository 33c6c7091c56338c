"""The compiled kernels of correlated noise release the bits that the torch operations do."""

import math
import traceback

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc.noise import feedback, regenerated
from dpfunc.noise.kernels import by_numba, by_torch, combined, combined_by_numba
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import BLOCKS, ROWS, streams
from dpfunc.types import Summed

pytestmark = pytest.mark.skipif(not by_numba.available(), reason="numba is not installed")
STEPS = 7
SHAPES = {"b": (4096,), "a": (3,), "e": (0,), "w": (90, 101)}  # groups begin within, and are shared


def runs_by_both(strategy, monkeypatch, kind, multiplier=1.3, bound=0.7):
    """All releases and the last state of a run, compiled and by torch."""
    return [
        released(strategy, kind, multiplier, bound),
        by_torch_alone(monkeypatch, lambda: released(strategy, kind, multiplier, bound)),
    ]


def by_torch_alone(monkeypatch, made):
    with monkeypatch.context() as patch:
        for module in (feedback, regenerated):
            patch.setattr(module, "available", lambda: False)
        return made()


def released(strategy, kind, multiplier=1.3, bound=0.7):
    noise = dp.CorrelatedNoise(multiplier, strategy, key=dp.key(4))
    params = {name: torch.zeros(shape, dtype=kind) for name, shape in SHAPES.items()}
    state, out = noise.init(params), []
    for step in range(STEPS):
        sums = {name: dp.normal(dp.key(step), shape).to(kind) for name, shape in SHAPES.items()}
        sums["a"][0] = (math.nan, math.inf, 1e9, -1e-30, 0.0, -math.inf, 3.0)[step]
        sums["w"][0] = 0.0
        noisy, state = noise.add(Summed(sums, bound), state)
        out.append(noisy)
    return out, state


def assert_same(first, second):
    for ours, theirs in zip(first[0], second[0], strict=True):
        for name in SHAPES:
            assert torch.equal(bits(ours[name]), bits(theirs[name])), name
    for ours, theirs in zip(first[1]["memory"], second[1]["memory"], strict=True):
        assert all(torch.equal(ours["words"][n], theirs["words"][n]) for n in SHAPES)


def bits(value):
    return value.contiguous().view(torch.uint8)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("bands", [1, 2, 5, 6])
def test_compiled_bands_are_those_of_torch(bands, kind, monkeypatch):
    strategy = dp.correlated.banded(steps=STEPS, bands=bands)
    assert_same(*runs_by_both(strategy, monkeypatch, kind))


def test_noise_of_64_bits_is_that_of_torch(monkeypatch):
    """So much noise that whole numbers of the fine grid need int64."""
    strategy = dp.correlated.Toeplitz(STEPS, (1.0, 0.5, -0.25))
    found = feedback.scales(strategy, 3e5, 0.7, 13_189)
    assert found.whole == torch.int64
    assert_same(*runs_by_both(strategy, monkeypatch, torch.float32, multiplier=3e5))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_compiled_sums_of_normals_are_those_of_torch(bands, kind, monkeypatch):
    strategy = dp.correlated.fractional(steps=STEPS, bands=bands, exponent=0.8)
    assert_same(*runs_by_both(strategy, monkeypatch, kind))


def test_what_cells_leave_open_is_decided(monkeypatch):
    strategy = dp.correlated.fractional(steps=STEPS, bands=2, exponent=0.8)
    quick = released(strategy, torch.float32)
    combined_by_numba._checked_kernel()
    monkeypatch.setattr(by_torch, "BOUND", (math.inf, math.inf))  # for cells, all
    monkeypatch.setattr(combined_by_numba, "ERROR", 2.0**-19)  # which leave some open
    assert_same(released(strategy, torch.float32), quick)


def test_a_uniform_that_rounds_to_one_is_decided_by_its_cell(monkeypatch):
    """Its radius in float32 is -0, and what is divided by that is no bound: minus infinity."""
    words = combined.pair_words
    radius = torch.tensor(-128, dtype=torch.int32)  # U from 1 - 2**-25 on

    def near_one(*args):
        own, angle = words(*args)
        return radius.expand_as(own).contiguous(), angle

    monkeypatch.setattr(combined, "pair_words", near_one)
    keys, found = [streams(dp.key(i)) for i in range(2)], []
    for bound in (combined.BOUND, (math.inf, math.inf)):  # for cells, all
        monkeypatch.setattr(combined, "BOUND", bound)
        items = torch.linspace(-0.5, 0.5, 300)
        combined.release_combined([Piece(items, 0)], keys, (1.0, -0.5), 127.0, 1.0)
        found.append(items)
    assert torch.equal(*found)


def test_a_uniform_that_rounds_to_one_is_not_decided_by_the_compiled_bound():
    kernel = pytest.importorskip("dpfunc.noise.kernels.numba_combined")
    rows = np.full((2 * ROWS, BLOCKS), 2**32 - 128, np.uint32)
    cosines, sines, errors = np.zeros((3, BLOCKS), np.float32)
    few = np.float32(2.0**-20)
    kernel.add_up(
        rows, 0, np.float32(100), few, few, np.float32(by_torch.MOST_SQUARE), cosines, sines, errors
    )
    assert (errors == math.inf).all()


@pytest.mark.parametrize("kind", ["banded", "fractional"])
def test_an_interrupt_leaves_no_sum_behind(kind, monkeypatch):
    strategy = getattr(dp.correlated, kind)(steps=STEPS, bands=2)
    noise, total = dp.CorrelatedNoise(1.0, strategy, key=dp.key(3)), torch.full((9,), 7.25e8)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(feedback, "release_", interrupt)
    monkeypatch.setattr(regenerated, "release_combined_by_numba", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        noise.add_(Summed({"w": total}, 1.0), noise.init({"w": total}))
    assert not total.any()
    for frame, _ in traceback.walk_tb(caught.tb):
        for found in frame.f_locals.values():
            for each in found.values() if isinstance(found, dict) else [found]:
                assert not (isinstance(each, torch.Tensor) and each.any())


def test_noise_beyond_its_range_is_refused(monkeypatch):
    """A memory of another run gives noise that no run has: both ways see it."""
    strategy = dp.correlated.banded(steps=STEPS, bands=3)

    def told():
        found = feedback.scales(strategy, 1.3, 0.7, 5)
        memory = [{"w": torch.full((5,), 2**30, dtype=torch.int32)}]
        with pytest.raises(RuntimeError, match="noise beyond 40 deviations"):
            feedback.release({"w": torch.zeros(5)}, memory, strategy, found, dp.key(1))

    told()
    by_torch_alone(monkeypatch, told)


def test_any_number_of_threads_gives_the_same(monkeypatch):
    strategies = [
        dp.correlated.banded(steps=STEPS, bands=3),
        dp.correlated.fractional(steps=STEPS, bands=3, exponent=0.8),
    ]
    one = [released(strategy, torch.float32) for strategy in strategies]
    monkeypatch.setattr(by_numba, "_FEW", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for strategy, expected in zip(strategies, one, strict=True):
            assert_same(released(strategy, torch.float32), expected)
    finally:
        torch.set_num_threads(before)
