"""`replay` finds what knows the number of records, and nothing in a run that does not."""

import pytest
import torch

import dpfunc as dp
from dpfunc import audit

DATA = dp.normal(dp.key(4), (20, 3))
VISITED = []
NEIGHBOUR = torch.cat([DATA, 50 * torch.ones(1, 3)])


def training(
    size=lambda x: 5.0, steps=lambda x: 6, max_norm=lambda x: 1.0, rate=0.25, change=lambda x: x
):
    def run(x, noise, visited=VISITED):
        private = dp.PrivateGrad(
            lambda params, x: ((params["w"] * x).sum() - 1).square(),
            clip=dp.Clip(max_norm(x)),
            noise=noise,
            expected_batch_size=size(x),
        )
        params = {"w": torch.zeros(3)}
        state = private.init(params)
        for step in range(steps(x)):
            indices, mask = dp.sampling.poisson(dp.key(7), step, size=len(x), rate=rate)
            grads, state, _ = private.update(params, change(x)[indices], state, mask)
            params = {"w": params["w"] - 0.1 * grads["w"]}
            visited.append(params["w"])

    return run


def test_a_run_that_knows_nothing_is_all_right():
    report = audit.replay(training(), DATA, NEIGHBOUR)
    assert not report.findings, report
    assert report.checks == 6
    assert 0.9 < report.worst <= 1.001


def test_both_trainings_visit_the_same_parameters():
    VISITED.clear()
    audit.replay(training(), DATA, NEIGHBOUR)
    assert len(VISITED) == 12
    assert all(torch.equal(VISITED[step], VISITED[step + 6]) for step in range(6))


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"size": lambda x: 0.25 * len(x)}, "the bound is"),
        ({"steps": lambda x: len(x) // 3}, "6 releases on one data set and 7"),
        ({"max_norm": lambda x: float(x.abs().max())}, "the bound is"),
        ({"change": lambda x: x - x.mean(0)}, "moved by"),
    ],
)
def test_what_knows_the_data_is_found(fault, what):
    report = audit.replay(training(**fault), DATA, NEIGHBOUR)
    assert any(what in finding.what for finding in report.findings), report


def test_a_run_that_hands_nothing_over_is_refused():
    with pytest.raises(ValueError, match="hands its sums to the noise"):
        audit.replay(lambda x, noise: None, DATA, NEIGHBOUR)
