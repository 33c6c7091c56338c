"""Counting what a run holds at a time, and how many samples fit a budget."""

import pytest
import torch

from dpfunc.persample.batches.shapes import shapes_alone
from dpfunc.step.memory import free_bytes, largest_fitting, peak_bytes

NUMBERS = 1000
BYTES = 4 * NUMBERS


def test_the_peak_is_of_what_is_in_use_at_a_time():
    given = torch.zeros(NUMBERS)

    def run():
        a = given + 1
        b = a * 2  # two of them
        del a
        b += 1  # in place: nothing new
        c = b.view(10, 100)[2:]  # a view: nothing new
        return c.sum()

    assert peak_bytes(run) == 2 * BYTES


def test_what_autograd_keeps_counts():
    given = torch.zeros(NUMBERS, requires_grad=True)

    def run(steps):
        value = given
        for _ in range(steps):
            value = value.exp()
        return value

    assert peak_bytes(lambda: run(5)) == 5 * BYTES
    with torch.no_grad():
        assert peak_bytes(lambda: run(5)) == 2 * BYTES


def test_shapes_alone_count_as_much_as_numbers_and_compute_nothing():
    def run(given):
        return (given @ given.mT).softmax(-1) @ given

    given = torch.randn(300, 50)
    with shapes_alone() as mode:
        like = mode.from_tensor(given)
        counted = peak_bytes(lambda: run(like))
        huge = torch.empty(10**7, 10**5)
        assert peak_bytes(lambda: huge + 1) == 4 * 10**12
    assert counted == peak_bytes(lambda: run(given)) == 4 * (2 * 300 * 300)


@pytest.mark.parametrize(
    ("peak_of", "budget", "exact"),
    [
        (lambda n: 100 + 7 * n, 1000, 128),
        (lambda n: 100 + 7 * n, 107, 1),
        (lambda n: n * n, 5000, 70),
        (lambda n: min(10 * n, 500), 400, 40),  # what is done in slices stops growing
        (lambda n: 10 * n + (2000 if n > 30 else 0), 1000, 30),
        (lambda n: n, 10**9, 1024),
    ],
)
def test_the_largest_that_fits(peak_of, budget, exact):
    asked = []

    def counted(n):
        asked.append(n)
        return peak_of(n)

    found = largest_fitting(counted, 1024, budget)
    assert peak_of(found) <= budget
    assert 0.9 * exact <= found <= exact
    assert len(asked) <= 12


def test_a_sample_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"memory_budget of at least 107 bytes.* got 106"):
        largest_fitting(lambda n: 100 + 7 * n, 1024, 106)


def test_free_memory_is_known_on_linux_and_elsewhere_refused():
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50
    with pytest.raises(RuntimeError, match="pass memory_budget in bytes"):
        free_bytes(torch.device("mps"))
