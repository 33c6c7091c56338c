"""L3: Poisson samples include each record independently at the rate, in every step anew."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc import sampling
from tests.devices import DEVICES

SIZE, RATE, STEPS = 1500, 0.13, 1500
UNLIKELY = 1e-5


@pytest.fixture(scope="module")
def included():
    """[STEPS, SIZE]: whether a record took part in a step."""
    table = np.zeros((STEPS, SIZE), dtype=bool)
    for step in range(STEPS):
        indices, mask = sampling.poisson(dp.key(5), step, size=SIZE, rate=RATE)
        assert mask.all()
        table[step, indices.numpy()] = True
    return table


def two_sided(cdf):
    return UNLIKELY < cdf < 1 - UNLIKELY


def test_the_rate_is_the_rate(included):
    assert two_sided(stats.binom.cdf(included.sum(), STEPS * SIZE, RATE))


def test_every_record_is_included_as_often_as_any(included):
    for counts, trials in ((included.sum(0), STEPS), (included.sum(1), SIZE)):
        squares = (counts - trials * RATE) ** 2 / (trials * RATE * (1 - RATE))
        assert two_sided(stats.chi2.cdf(squares.sum(), df=counts.size))


def test_the_batch_size_has_the_binomial_distribution(included):
    sizes = included.sum(1)
    spread = sizes.var(ddof=1) * (STEPS - 1) / (SIZE * RATE * (1 - RATE))
    assert two_sided(stats.chi2.cdf(spread, df=STEPS - 1))
    edges = stats.binom.ppf([0.1, 0.25, 0.5, 0.75, 0.9], SIZE, RATE)
    below = np.array([(sizes <= edge).sum() for edge in edges])
    for count, edge in zip(below, edges, strict=True):
        assert two_sided(stats.binom.cdf(count, STEPS, stats.binom.cdf(edge, SIZE, RATE)))


@pytest.mark.parametrize("lag", [1, 2, 17])
def test_steps_are_independent_and_so_are_records(included, lag):
    for table in (included, included.T):
        both = (table[lag:] & table[:-lag]).sum()
        assert two_sided(stats.binom.cdf(both, table[lag:].size, RATE**2))


def test_empty_batches_are_delivered():
    sizes = [len(sampling.poisson(dp.key(6), s, size=10, rate=0.05)[0]) for s in range(400)]
    assert two_sided(stats.binom.cdf(sizes.count(0), 400, 0.95**10))


def test_adding_a_record_leaves_the_coins_of_the_others():
    for step in range(20):
        small, _ = sampling.poisson(dp.key(7), step, size=99, rate=0.3)
        large, _ = sampling.poisson(dp.key(7), step, size=100, rate=0.3)
        assert large[large < 99].tolist() == small.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_padding_changes_the_shape_alone(device):
    for step in range(20):
        plain, _ = sampling.poisson(dp.key(8), step, size=200, rate=0.2)
        indices, mask = sampling.poisson(
            dp.key(8), step, size=200, rate=0.2, pad_to=80, device=device
        )
        assert indices.shape == mask.shape == (80,)
        assert indices.device.type == mask.device.type == device
        assert indices[mask].tolist() == plain.tolist()
        assert not indices[~mask].any()


def test_tiny_rates_keep_their_64_bit_coins():
    rate = 2.0**-20
    drawn = sum(len(sampling.poisson(dp.key(9), s, size=2**20, rate=rate)[0]) for s in range(200))
    assert two_sided(stats.poisson.cdf(drawn, 200.0))


def test_the_padded_size_holds_a_batch_as_often_as_it_says():
    size, rate = 1000, 0.1
    width = sampling.padded_size(size=size, rate=rate, overflow_probability=0.01)
    assert stats.binom.sf(width, size, rate) <= 0.01 < stats.binom.sf(width - 1, size, rate)
    assert math.isclose(sampling.padded_size(size=50, rate=1.0), 50)


def test_sampling_and_noise_from_one_key_share_no_bits():
    noise = dp.normal(dp.fold_in(dp.key(1), "noise", 0, "w"), (1000,))
    indices, _ = sampling.poisson(dp.key(1), 0, size=1000, rate=0.5)
    member = torch.zeros(1000).index_fill_(0, indices, 1.0)
    assert abs(np.corrcoef(noise, member)[0, 1]) * math.sqrt(1000) < 4.5
