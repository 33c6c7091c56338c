"""The compiled release: the numbers of the other one, to the last bit, or none."""

import pytest
import torch

import dpfunc as dp
from dpfunc.noise import fused, lattice
from dpfunc.noise.fused import FusedRelease
from dpfunc.random.keys import key

# Importing torch's own compiler warns of its use of TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

INDUCTOR = FusedRelease("inductor")
SIZE = 2**19 + 2 * 5000 + 1  # a whole run of pairs, one that ends anywhere, and one without a twin


def released(kernel, values, *, scale):
    return lattice.release(values, key(1), deviation=1.0, grid=1 / scale, kernel=kernel)


@pytest.mark.parametrize("scale", [1.0, 2.0**20, 2.0**27, 2.0**34])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_numbers_to_the_last_bit(scale, dtype):
    values = torch.linspace(-5, 5, SIZE, dtype=dtype)
    values[:3] = torch.tensor([torch.nan, torch.inf, -0.0])
    for part in (values, values[1:].reshape(-1, 16)):
        ours, known = (released(kernel, part, scale=scale) for kernel in (INDUCTOR, None))
        torch.testing.assert_close(ours, known, rtol=0.0, atol=0.0, equal_nan=True)


def test_it_serves_most_runs_and_leaves_the_others():
    """At this scale about one in four runs of 2**18 pairs has a number within the error bound."""
    served = []

    def noting(*args):
        served.append(INDUCTOR(*args))
        return served[-1]

    values = torch.zeros(12 * 2**19)
    ours, known = (released(kernel, values, scale=2.0**25) for kernel in (noting, None))
    assert torch.equal(ours, known)
    assert 0.5 < sum(served) / len(served) < 1


def test_what_it_leaves_open_is_decided_elsewhere(monkeypatch):
    monkeypatch.setattr(fused, "error_bound", lambda radius, u: torch.ones_like(radius))
    kernel, values = FusedRelease("eager"), torch.zeros(2**14)
    draw = next(lattice.draws(key(0), len(values), scale=100.0, device=values.device))
    untouched = torch.full_like(values, 7.0)
    assert not kernel(draw, values, untouched, 0.01)
    assert (untouched == 7.0).all()
    assert torch.equal(released(kernel, values, scale=100.0), released(None, values, scale=100.0))


def test_a_kernel_that_is_wrong_is_refused():
    def wrong(graph, _):
        def run(*inputs):
            one, other, farthest = graph(*inputs)
            return one, other.flip(0), farthest

        return run

    with pytest.raises(RuntimeError, match="the compiled release is wrong on cpu"):
        released(FusedRelease(wrong), torch.zeros(2**14), scale=100.0)


def test_a_compiled_step_takes_it_and_releases_the_same():
    params, x = {"w": torch.zeros(2**14)}, torch.linspace(0, 1, 4).unsqueeze(1)
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(1.0, key=dp.key(3)),
        expected_batch_size=4,
    )
    fast = dp.compile(private, backend="eager")
    assert isinstance(fast.private.noise.kernel, FusedRelease)
    assert fast.private.noise == private.noise
    state = private.init(params)
    expected, actual = (step.update(params, x, state)[0] for step in (private, fast))
    assert torch.equal(actual["w"], expected["w"])
