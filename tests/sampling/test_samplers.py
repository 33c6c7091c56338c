"""C7: who takes part. Each inclusion law, separations, and what a record more changes."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

import dpfunc as dp
from dpfunc import accounting, sampling
from dpfunc.random.subsets import uniform_index

SAMPLERS = {
    "Poisson": sampling.Poisson(size=60, rate=0.2),
    "TruncatedPoisson": sampling.TruncatedPoisson(size=60, rate=0.2, most=14),
    "FixedSize": sampling.FixedSize(size=60, batch_size=10),
    "CyclicPoisson": sampling.CyclicPoisson(size=60, rate=0.6, cycle=3),
    "BallsInBins": sampling.BallsInBins(size=60, bins=6),
    "Allocation": sampling.Allocation(size=60, steps=6, participations=2),
    "Shuffled": sampling.Shuffled(size=60, batch_size=10),
}
INDEPENDENT = ("Poisson", "CyclicPoisson", "BallsInBins", "Allocation")


def steps_of(sampler, key, steps):
    """Who takes part when: bool ``[steps, size]``."""
    taken = np.zeros((steps, sampler.size), bool)
    for step in range(steps):
        taken[step, sampler.batch(key, step)[0].numpy()] = True
    return taken


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_pure_function_of_key_and_step(name):
    sampler = SAMPLERS[name]
    indices, mask = sampler.batch(dp.key(1), 4)
    again, padding = sampler.batch(dp.key(1), 4, pad_to=60)
    assert indices.dtype == torch.int64
    assert mask.all()
    assert torch.equal(again[padding], indices)
    assert len(again) == 60
    assert (indices[1:] > indices[:-1]).all()
    others = [sampler.batch(dp.key(k), 4)[0].tolist() for k in range(2, 5)]
    assert any(other != indices.tolist() for other in others)
    with pytest.raises(ValueError, match="int step >= 0"):
        sampler.batch(dp.key(1), -1)
    with pytest.raises(ValueError, match="pad_to"):
        sampler.batch(dp.key(1), 4, pad_to=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_record_is_in_as_often_as_the_expected_batch_says(name):
    """Over keys and steps: the mean size of a batch, and no record or step that differs."""
    sampler, keys = SAMPLERS[name], 150
    taken = np.stack([steps_of(sampler, dp.key(k), 6) for k in range(keys)])  # [keys, 6, size]
    mean = sampler.expected_batch_size / sampler.size
    if name == "TruncatedPoisson":  # of 60 coins at .2, as many as 14 count
        sizes = np.minimum(np.arange(61), 14)
        mean = (stats.binom.pmf(np.arange(61), 60, 0.2) * sizes).sum() / 60
    deviation = (mean * (1 - mean) / (keys * 6)) ** 0.5
    for axes in ((0, 1), (0, 2)):
        share = taken.mean(axis=axes)
        spread = deviation * 6**0.5 * 5 if axes == (0, 1) else 5 * deviation
        assert np.abs(share - mean).max() < spread


@pytest.mark.parametrize("name", [n for n in SAMPLERS if SAMPLERS[n].participation(9)])
def test_promises_are_kept(name):
    sampler = SAMPLERS[name]
    for key in range(20):
        taken, promised = steps_of(sampler, dp.key(key), 25), sampler.participation(25)
        assert taken.sum(0).max() <= promised.most
        for record in taken.T:
            gaps = np.diff(np.flatnonzero(record))
            assert (gaps >= promised.min_separation).all()
            assert not promised.evenly_spaced or (gaps == promised.min_separation).all()
    if name != "Allocation":
        assert promised.min_separation == taken.shape[0] // 4 or promised.min_separation in (3, 6)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_record_more_changes_nobody_else(name):
    sampler = SAMPLERS[name]
    larger = type(sampler)(**{**vars(sampler), "size": 61})
    for step in range(8):
        here, there = sampler.batch(dp.key(3), step)[0], larger.batch(dp.key(3), step)[0]
        assert torch.equal(here, there[there < 60])


def test_groups_are_uniform_and_secret():
    sampler = sampling.CyclicPoisson(size=60_000, rate=0.5, cycle=7)
    groups = sampler.group_of(dp.key(1))
    assert stats.chisquare(groups.bincount(minlength=7).numpy()).pvalue > 1e-4
    agree = (groups == sampler.group_of(dp.key(2))).double().mean()
    assert abs(agree - 1 / 7) < 5 * (6 / 49 / 60_000) ** 0.5


def test_coins_of_a_cycle_are_independent_of_the_group():
    sampler = sampling.CyclicPoisson(size=20_000, rate=0.3, cycle=2)
    taken = steps_of(sampler, dp.key(5), 4)
    groups = sampler.group_of(dp.key(5)).numpy()
    for step in range(4):
        assert not taken[step, groups != step % 2].any()
        share = taken[step, groups == step % 2].mean()
        assert abs(share - 0.3) < 5 * (0.21 / 10_000) ** 0.5
    both = (taken[0] & taken[2])[groups == 0].mean()
    assert abs(both - 0.09) < 5 * (0.09 / 10_000) ** 0.5


def test_allocations_are_uniform_subsets_and_fresh_in_every_epoch():
    sampler = sampling.Allocation(size=6000, steps=4, participations=2)
    taken = steps_of(sampler, dp.key(2), 8)
    first, second = (taken[part].T @ (2 ** np.arange(4)) for part in (slice(4), slice(4, 8)))
    for codes in (first, second):
        values, counts = np.unique(codes, return_counts=True)
        assert values.tolist() == [3, 5, 6, 9, 10, 12]
        assert stats.chisquare(counts).pvalue > 1e-4
    assert abs((first == second).mean() - 1 / 6) < 0.03


def test_an_index_is_exactly_uniform_where_words_do_not_divide():
    """Of the 2**63 words, those beyond the last multiple of ``below`` are drawn again."""
    below = 3 * 2**60  # two multiples of it fit: a quarter of the words do not
    drawn = uniform_index(dp.key(1), 4000, below=below).double() / below
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-4
    assert torch.equal(
        uniform_index(dp.key(1), 10, below=7), uniform_index(dp.key(1), 99, below=7)[:10]
    )


def test_batches_for_a_loader():
    sampler = SAMPLERS["CyclicPoisson"]
    batches = sampling.Batches(sampler, key=dp.key(1), steps=5, start=2)
    loader = DataLoader(torch.arange(60), batch_sampler=batches)
    for step, batch in zip(range(2, 7), loader, strict=True):
        assert torch.equal(batch, sampler.batch(dp.key(1), step)[0])
    assert len(batches) == 5
    for call, error in (
        (lambda: sampling.Batches(3, key=dp.key(1), steps=5), "a sampler of dpfunc.sampling"),
        (lambda: sampling.Batches(sampler, key=3, steps=5), "dpfunc.Key"),
        (lambda: sampling.Batches(sampler, key=dp.key(1), steps=-5), "int steps >= 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=error):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sampling.Poisson(size=0, rate=0.1), "Poisson: expected an int size"),
        (lambda: sampling.CyclicPoisson(size=9, rate=1.5, cycle=2), "probability 0 <= rate"),
        (lambda: sampling.CyclicPoisson(size=9, rate=0.5, cycle=0), "int cycle >= 1"),
        (lambda: sampling.FixedSize(size=9, batch_size=10), "batch_size <= 9"),
        (lambda: sampling.Allocation(size=9, steps=3, participations=4), "at most 3"),
        (lambda: sampling.TruncatedPoisson(size=9, rate=0.1, most=0), "int most >= 1"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_size_of_a_truncated_group_is_that_of_the_data():
    """Trap 28: the event is not monotone in it, so it has to be the true one."""
    event = SAMPLERS["TruncatedPoisson"].event(1.0, steps=3)
    assert event == accounting.TruncatedPoisson(0.2, 14, 60, accounting.Gaussian(1.0)) * 3
