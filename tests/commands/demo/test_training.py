"""The demo's training loop reports what each step has spent, whenever it looks at the accuracy."""

import pytest

import dpfunc as dp
from dpfunc import accounting
from dpfunc.commands.demo.data import load_digits
from dpfunc.commands.demo.training import Plan, tanh_cnn, train_private


def test_every_step_reports_its_own_epsilon():
    key = dp.key(3)
    plan = Plan(
        target_epsilon=2.0,
        delta=1e-5,
        sample_rate=0.01,
        steps=5,
        noise_multiplier=1.0,
        evaluate_every=3,
    )
    data = load_digits(key)
    seen = list(train_private(tanh_cnn(key), data, plan, key))
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5]
    for progress in seen:
        event = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=progress.step)
        assert progress.epsilon == pytest.approx(accounting.epsilon(event, delta=1e-5), rel=2e-5)
    assert seen[0].accuracy == seen[1].accuracy == 0.0 < seen[2].accuracy
