"""Batches are recognised by the scheme that they come from."""

import numpy as np
import pytest

import dpfunc as dp
from dpfunc import audit

SIZE, RATE = 240, 0.1


def poisson(step, rate=RATE):
    return dp.sampling.poisson(dp.key(2), step, size=SIZE, rate=rate)[0].tolist()


def generator(step):
    return np.random.default_rng([5, step])


def shuffled(step, batch=24):
    epoch, place = divmod(step, SIZE // batch)
    return generator(epoch).permutation(SIZE)[place * batch :][:batch]


def fixed(step):
    return generator(step).permutation(SIZE)[:24]


def replaced(step):
    return generator(step).integers(0, SIZE, 24)


def sticky(step):
    """Poisson samples, each used twice in a row."""
    return poisson(step // 2)


@pytest.mark.parametrize(
    ("draw", "scheme"),
    [
        (poisson, "Poisson"),
        (shuffled, "shuffled"),
        (fixed, "WithoutReplacement(24, 240"),
        (replaced, "WithReplacement(24, 240"),
    ],
)
def test_a_scheme_is_known_by_its_batches(draw, scheme):
    report = audit.check_sampler(draw, size=SIZE, rate=RATE)
    assert bool(report) == (draw is poisson), report
    assert scheme in report.notes[0]


@pytest.mark.parametrize(
    ("draw", "where"),
    [
        (lambda step: poisson(step, rate=0.12), "all batches"),
        (shuffled, "records"),
        (fixed, "batch sizes"),
        (sticky, "batches in a row"),
        (replaced, "batches"),
    ],
)
def test_what_is_not_poisson_is_accused(draw, where):
    report = audit.check_sampler(draw, size=SIZE, rate=RATE)
    assert where in {finding.where for finding in report.findings}, report


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rate": 1.0}, "a rate in"),
        ({"size": 1}, "an int size >= 2"),
        ({"steps": 10}, "use 100"),
        ({"size": 20}, "records below 20"),
    ],
)
def test_what_cannot_be_checked_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        audit.check_sampler(poisson, **({"size": SIZE, "rate": RATE} | options))
