"""L1 for queries: whatever record comes, the values move by the bound at most; and what is read."""

import math

import pytest
import torch

import dpfunc as dp
from dpfunc import accounting, queries
from dpfunc.types import Summed

RECORDS = [0.0, 1.0, -7.5, 3.0, 1e8, 1e8 + 6, -1e30, math.inf, -math.inf, math.nan]
RANGES = [(0.0, 5.0), (-2.0, 1.0), (1e8, 1e8 + 6), (3.0, 3.0)]


def moved(query, start, one):
    before, after = query(start), query(torch.cat([start, one]))
    assert before.bound == after.bound
    squares = sum(
        float((after.values[name] - before.values[name]).square().sum()) for name in before.values
    )
    return math.sqrt(squares), after.bound


QUERIES = {
    "count": (lambda x: queries.count(x > 1), 1.0),
    "histogram": (lambda x: queries.histogram(x.nan_to_num(0, 0, 0).long() % 5, bins=4), 1.0),
    "rows": (lambda x: queries.total(torch.stack([x, 2 * x], 1), max_norm=0.5), 0.5),
    "together": (
        lambda x: queries.together(
            a=queries.count(x > 1), b=queries.mean(x, low=0, high=4).summed
        ),
        math.sqrt(1 + 8),
    ),
} | {f"total {a:g}": (lambda x, a=a, b=b: queries.total(x, low=a, high=b), max(abs(a), abs(b)))
     for a, b in RANGES}  # fmt: skip
QUERIES |= {
    f"mean {a:g}": (lambda x, a=a, b=b: queries.mean(x, low=a, high=b).summed, (b - a) / 2**0.5)
    for a, b in RANGES[:3]
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", QUERIES)
def test_a_record_moves_the_values_by_the_bound_at_most(name, dtype):
    query, bound = QUERIES[name]
    sizes = []
    for start in ([], [2.0], [1e8, -3.0, 0.5]):
        for one in RECORDS:
            size, stated = moved(
                query, torch.tensor(start, dtype=dtype), torch.tensor([one], dtype=dtype)
            )
            assert stated == pytest.approx(bound)
            assert size <= stated * (1 + 1e-9), one
            sizes.append(size / stated)
    assert max(sizes) > 0.99  # some record attains it


def test_values():
    x = torch.tensor([1.0, 2.0, 9.0, torch.nan])
    assert queries.total(x, low=0, high=5).values["total"] == 8
    assert queries.count(x > 1.5).values["count"] == 2
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [torch.inf, 0.0]])
    assert torch.allclose(
        queries.total(rows, max_norm=1.0).values["total"], torch.tensor([0.9, 1.2]).double()
    )
    mean = queries.mean(x, low=0, high=4)
    assert mean.of(mean.summed.values) == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    ("size", "centred", "answer"), [(0, 5, 2), (-3, 1, 2), (1, 99, 4), (1, -99, 0)]
)
def test_a_noisy_mean_stays_in_its_range(size, centred, answer):
    mean = queries.mean(torch.zeros(0), low=0, high=4)
    assert mean.of({"count": torch.tensor(size), "centred": torch.tensor(centred)}) == answer


def test_the_noise_of_a_mean_is_as_said():
    x = dp.uniform(dp.key(1), (10_000,)) * 100
    mean = queries.mean(x, low=0, high=120)
    found = []
    for seed in range(60):
        noise = dp.GaussianNoise(4.2247, key=dp.key(seed))
        noisy, _ = noise.add(mean.summed, noise.init({}))
        found.append(mean.of(noisy))
    middle = ((float(x.double().mean()) - 60) / 60) ** 2
    expected = 4.2247 * math.sqrt(2) * 60 / 10_000 * math.sqrt(1 + middle)
    assert torch.tensor(found).double().std() == pytest.approx(expected, rel=0.3)


def test_the_ledger_counts_queries():
    noise = dp.GaussianNoise(4.2246799, key=dp.key(2))
    state = noise.init({})
    for query in (queries.count(torch.ones(5).bool()), queries.histogram(torch.arange(5), bins=5)):
        _, state = noise.add(query, state)
    event = noise.event(state, sample_rate=1.0)
    assert accounting.epsilon(event, delta=1e-6) == accounting.epsilon(
        accounting.Gaussian(4.2246799) * 2, delta=1e-6
    )
    one = accounting.epsilon(accounting.Gaussian(4.2246799), delta=1e-6)
    assert one == pytest.approx(1.0, abs=1e-6)
    _, state = noise.add(queries.count(torch.ones(5).bool()), state)
    three = accounting.epsilon(noise.event(state, sample_rate=1.0), delta=1e-6)
    assert three == pytest.approx(1.8137835, abs=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        (lambda: queries.count(torch.ones(3)), TypeError, "a mask, bool"),
        (lambda: queries.total(torch.ones(3)), ValueError, "finite low <= high"),
        (lambda: queries.total(torch.ones(3), low=2, high=1), ValueError, "finite low <= high"),
        (lambda: queries.total(torch.ones(3, 2), low=0, high=1), TypeError, "with 1 axes"),
        (lambda: queries.total(torch.ones(3, 2), max_norm=0.0), ValueError, "a finite max_norm"),
        (lambda: queries.mean(torch.ones(3), low=1, high=1), ValueError, "low < high"),
        (lambda: queries.histogram(torch.ones(3), bins=2), TypeError, "one whole number"),
        (lambda: queries.histogram(torch.ones(3, 2).long(), bins=2), TypeError, "one whole"),
        (lambda: queries.histogram(torch.arange(3), bins=0), ValueError, "an int bins"),
        (lambda: queries.together(), ValueError, "at least one"),
        (
            lambda: queries.together(a=queries.mean(torch.ones(1), low=0, high=1)),
            TypeError,
            "of a mean, .summed",
        ),
    ],
)
def test_what_has_no_bound_is_refused(call, error, reason):
    with pytest.raises(error, match=reason):
        call()


def test_they_are_sums_for_a_noise_mechanism():
    assert isinstance(queries.count(torch.zeros(0).bool()), Summed)
