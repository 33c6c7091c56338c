"""`check_step` finds nothing in dpfunc, and names each fault that is planted in a step."""

import json
import math
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import dpfunc as dp
from dpfunc import audit
from tests.laws import matrix

BOUND = 0.7


def draw(name, *shape):
    return dp.normal(dp.fold_in(dp.key(3), name), shape)


PARAMS = {"w": draw("w", 4, 1, 3, 3), "b": draw("b", 4), "v": draw("v", 2, 4)}
BATCH = (draw("x", 5, 1, 6, 6), torch.arange(5) % 2)


def loss(params, x, y):
    padded = F.pad(x[None], (1, 1, 1, 1), mode="circular")
    hidden = F.conv2d(padded, params["w"], params["b"]).relu().mean((2, 3))
    return F.cross_entropy(hidden @ params["v"].T, y[None])


def clipped_sum(batch, norm_of=None, scale=1.0, gradients=None):
    """The clipped sum, by a loop: what a step should do, with places for faults."""
    total = {name: torch.zeros_like(p) for name, p in PARAMS.items()}
    for x, y in zip(*batch, strict=True):
        one = (gradients or dp.per_sample_grad(loss))(PARAMS, x[None], y[None])
        one = {name: g[0] for name, g in one.items()}
        if not all(bool(g.isfinite().all()) for g in one.values()):
            continue
        norm = math.sqrt(sum(float(g.square().sum()) for g in (norm_of or dict)(one).values()))
        weight = scale * min(1.0, BOUND / max(norm, 1e-30))
        total = {name: total[name] + weight * one[name] for name in total}
    return total


def plain_grad(one):
    return {name: g[0] for name, g in dp.per_sample_grad(loss)(PARAMS, *one).items()}


def check(summed, **options):
    options = {"bound": BOUND, "plain_grad": plain_grad} | options
    return audit.check_step(summed, BATCH, **options)


def severities(report):
    return {finding.severity for finding in report.findings}


def test_a_right_step_has_no_findings():
    report = check(clipped_sum)
    assert not report.findings, report
    assert report
    assert 0.99 < report.worst <= 1.001
    assert report.checks > 40


def mean(batch):
    return {n: v / max(1, len(batch[0])) for n, v in clipped_sum(batch).items()}


def test_a_mean_in_the_place_of_a_sum_adds_something_else():
    assert "wrong gradient" in severities(check(mean))


def test_a_leaf_without_clipping_is_a_violation():
    def norm_of(one):
        return {name: g for name, g in one.items() if name != "v"}

    report = check(lambda batch: clipped_sum(batch, norm_of=norm_of))
    assert "violation" in severities(report)
    assert report.worst > 1.1


def without_padding(params, x, y):
    """Per-sample gradients of a convolution whose padding the formula forgets, zeros for it."""

    def forgetful(params, x, y):
        hidden = F.conv2d(x[None], params["w"], params["b"], padding=1).relu().mean((2, 3))
        return F.cross_entropy(hidden @ params["v"].T, y[None])

    return dp.per_sample_grad(forgetful)(params, x, y)


def test_padding_that_is_ignored_gives_a_wrong_gradient():
    report = check(lambda batch: clipped_sum(batch, gradients=without_padding))
    assert severities(report) == {"wrong gradient"}
    assert report.worst <= 1.001


def test_norms_of_the_wrong_gradient_are_a_violation():
    """A fault of ghost clipping: norms by a formula without the padding, sums by autograd."""

    def summed(batch):
        total = {name: torch.zeros_like(p) for name, p in PARAMS.items()}
        for x, y in zip(*batch, strict=True):
            one = {n: g[0] for n, g in dp.per_sample_grad(loss)(PARAMS, x[None], y[None]).items()}
            wrong = without_padding(PARAMS, x[None], y[None])
            norm = math.sqrt(sum(float(g.square().sum()) for g in wrong.values()))
            weight = min(1.0, BOUND / max(norm, 1e-30)) if math.isfinite(norm) else 0.0
            total = {n: total[n] + (weight * one[n] if weight else 0) for n in total}
        return total

    assert "violation" in severities(check(summed))


def test_a_batch_norm_is_a_violation():
    """Every record's gradient depends on all: the sum moves by more than one record."""

    def summed(batch):
        x = batch[0]
        if len(x) > 1:
            x = (x - x.mean(0)) / (x.std(0) + 1e-5)
        return clipped_sum((x, batch[1]))

    assert "violation" in severities(check(summed))


def test_a_release_that_a_nan_takes_over_is_not_finite():
    def summed(batch):
        total = {name: torch.zeros_like(p) for name, p in PARAMS.items()}
        for x, y in zip(*batch, strict=True):
            one = {n: g[0] for n, g in dp.per_sample_grad(loss)(PARAMS, x[None], y[None]).items()}
            norm = math.sqrt(sum(float(g.square().sum()) for g in one.values()))
            total = {n: total[n] + one[n] * min(1.0, BOUND / (norm + 1e-6)) for n in total}
        return total

    report = check(summed)
    assert severities(report) == {"not finite"}
    assert any("NaN" in finding.where for finding in report.findings)


def test_an_error_that_a_record_causes_is_a_violation():
    def summed(batch):
        if (batch[0].abs() > 1e6).any():
            raise OverflowError("too large")
        return clipped_sum(batch)

    report = check(summed)
    assert any("OverflowError with it" in finding.what for finding in report.findings)


def test_an_empty_batch_that_is_refused_shows():
    def summed(batch):
        if len(batch[0]) == 0:
            raise IndexError("no samples")
        return clipped_sum(batch)

    (finding,) = check(summed).findings
    assert (finding.severity, finding.where) == ("violation", "no records")


def test_chance_in_a_step_is_found():
    calls = []

    def summed(batch):
        calls.append(None)
        return {n: v + 1e-4 * len(calls) for n, v in clipped_sum(batch).items()}

    assert "not deterministic" in severities(check(summed))


@pytest.mark.parametrize("microbatch", matrix.MICROBATCHES)
@pytest.mark.parametrize("rule", matrix.CLIPS)
@pytest.mark.parametrize("engine", matrix.ENGINE_NAMES)
def test_dpfunc_has_no_findings(engine, rule, microbatch):
    params, x, y = matrix.setting(torch.float64, "cpu")
    private = dp.PrivateGrad(
        matrix.loss_fn,
        clip=matrix.CLIPS[rule],
        noise=dp.GaussianNoise(1.0, key=dp.key(1)),
        expected_batch_size=3,
        microbatch_size=microbatch,
        engine=engine,
    )
    report = audit.check_step(**audit.of_private_grad(private, params, (x, y)))
    assert not report.findings, report
    assert report.worst <= 1 + 1e-9


def test_a_report_is_a_table_and_json():
    report = check(mean)
    assert "wrong gradient" in str(report)
    assert json.loads(report.to_json())["findings"][0]["severity"] == "wrong gradient"
    infinite = audit.Report("x", (audit.Finding("not finite", "a", "b", math.inf),), 1, math.nan)
    assert json.loads(infinite.to_json())["findings"][0]["size"] == "inf"


ADAPTER = """
import torch
def adapter():
    def summed(batch):
        return {"w": (batch[0] * SCALE).sum(0)}
    return {"summed": summed, "batch": (torch.eye(3),), "bound": 1.0}
"""


def test_the_command_reads_an_adapter(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(ADAPTER.replace("SCALE", "2.0"))
    command = [sys.executable, "-m", "dpfunc", "audit", f"{file}:adapter"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "moves the sum by 2 bounds" in run.stdout
    run = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(run.stdout)["subject"] == "check_step"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bound": 0.0}, "a finite bound > 0"),
        ({"tol": -1.0}, "a tol in"),
        ({"batch": BATCH[0]}, "a tuple of tensors"),
        ({"batch": (BATCH[0][:1], BATCH[1][:1])}, "at least two records"),
        ({"batch": (BATCH[0], BATCH[1][:2])}, "as many in each tensor"),
    ],
)
def test_what_cannot_be_checked_is_refused(options, reason):
    options = {"batch": BATCH, "bound": BOUND} | options
    with pytest.raises(ValueError, match=re.escape(reason)):
        audit.check_step(clipped_sum, options.pop("batch"), **options)
