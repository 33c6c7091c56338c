"""L4: a real step releases what the accountant assumes, its dominating pair, canary by canary.

Each record has a direction of its own, half of it in either of two parameters, and a gradient far
above the clipping norm. Along its direction the release must be distributed as P of the
accountant's pair (with the record, sampled at the rate), and along a direction without a record as
Q. A wrong noise scale, clipping, rate, sum or divisor moves one of the two; Kolmogorov-Smirnov sees
it.
"""

import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc.accounting import Gaussian, Poisson
from dpfunc.accounting.domination.composition import dominating_pair
from tests.laws.matrix import (
    DEVICES,
    ENGINE_NAMES,
    MICROBATCHES,
    NOISES,
    WIDENED,
    expected_distinct,
)

RECORDS, RATE, SIGMA, MAX_NORM, STEPS = 300, 0.2, 0.8, 0.7, 400
UNLIKELY = 1e-5
RULES = {
    "Clip": dp.Clip(MAX_NORM),
    "AutoClip": dp.AutoClip(MAX_NORM, stability=1e-4),
    "ClipPerLayer": dp.ClipPerLayer(MAX_NORM),
}


def canary_loss(params, direction):
    return -30.0 * ((params["u"] + params["v"]) * direction).sum()


def released(rule, noise, engine, microbatch, device, pad):
    """[STEPS, 2 * RECORDS]: the release in units of the bound; the first half has records."""
    directions = torch.eye(2 * RECORDS, device=device)[:RECORDS]
    params = {name: torch.zeros(2 * RECORDS, device=device) for name in ("u", "v")}
    key = dp.key(11)
    private = dp.PrivateGrad(
        canary_loss,
        clip=RULES[rule],
        noise=NOISES[noise](SIGMA, key=key),
        expected_batch_size=RATE * RECORDS,
        microbatch_size=microbatch,
        engine=engine,
    )
    state = private.init(params)
    rows = []
    for step in range(STEPS):
        indices, mask = dp.sampling.poisson(
            key, step, size=RECORDS, rate=RATE, pad_to=pad, device=device
        )
        grads, state, _ = private.update(params, directions[indices], state, mask)
        rows.append(-(grads["u"] + grads["v"]) / 2**0.5)  # unit direction (u, v) / sqrt(2)
    return torch.stack(rows).double().cpu().numpy() * (RATE * RECORDS / MAX_NORM)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("rule", "microbatch", "pad"),
    [("Clip", m, p) for m in (None, 37) for p in (None, 110)]
    + [("AutoClip", None, None), ("ClipPerLayer", None, None)],
)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("noise", NOISES)
def test_the_step_releases_the_accountants_pair(rule, microbatch, pad, engine, noise, device):
    values = released(rule, noise, engine, microbatch, device, pad)
    with_record, without = values[:, :RECORDS].flatten(), values[:, RECORDS:].flatten()
    pair = dominating_pair(Poisson(RATE, Gaussian(SIGMA)), "remove", "remove")
    assert stats.kstest(with_record / SIGMA, lambda y: pair.cdfs(y)[0]).pvalue > UNLIKELY
    assert stats.kstest(without / SIGMA, lambda y: pair.cdfs(y)[1]).pvalue > UNLIKELY
    # All records together would hide one that counts too often, as padding without its mask does.
    spread = ((SIGMA**2 + RATE * (1 - RATE)) / STEPS) ** 0.5
    assert (abs(values[:, :RECORDS].mean(0) - RATE) < 5 * spread).all()
    # The tests above assume independent draws; a repeated noise would satisfy it with fewer.
    one = 2.0**6 * 2 ** (np.log2(SIGMA * MAX_NORM * WIDENED / (RATE * RECORDS)) % 1)
    deviation = 2**0.5 * one  # of u + v, in units of the grid
    expected, spread = expected_distinct(without.size, deviation)
    assert np.unique(without).size > expected - 6 * spread
    step_means = values[:, RECORDS:].mean(1) * RECORDS**0.5 / SIGMA
    assert stats.kstest(step_means, "norm").pvalue > UNLIKELY


def test_microbatches_of_one_are_in_the_matrix():
    assert 1 in MICROBATCHES  # too slow for 400 steps: L6 shows that they change rounding alone
