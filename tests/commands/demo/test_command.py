"""The demo from the outside: what it prints, draws and refuses."""

import pytest
import torch

import dpfunc as dp
from dpfunc.__main__ import main
from dpfunc.commands.demo import training


def test_a_short_run_ends_with_a_table_and_a_plot(tmp_path, capsys):
    plot = tmp_path / "plot.png"
    arguments = ["demo", "--steps", "3", "--sample-rate", "0.02", "--seed", "1"]
    assert main([*arguments, "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "private (DP-SGD)" in out
    assert "non-private" in out
    assert "budget epsilon 3 at delta 1e-05" in out
    assert "means: whoever sees the private model" in out
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_it_stops_with_the_budget(tmp_path, capsys):
    arguments = ["demo", "--steps", "30", "--sample-rate", "0.02", "--seed", "1"]
    arguments += ["--noise-multiplier", "0.8", "--epsilon", "1.7"]
    assert main([*arguments, "--plot", str(tmp_path / "plot.png")]) == 0
    (row,) = [li for li in capsys.readouterr().out.splitlines() if li.startswith("private (DP")]
    steps, _, epsilon = row.split()[2:5]
    assert 0 < int(steps) < 30
    assert 1.6 < float(epsilon) <= 1.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "/nowhere"], "--data: expected a folder"),
        (
            ["--epsilon", "1e-9", "--delta", "1e-30"],
            "expected a target that a noise multiplier of 1e+06 meets",
        ),
        (["--epsilon", "0"], "expected target_epsilon > 0"),
        (["--delta", "0"], "expected a probability 0 < delta <= 1"),
        (["--sample-rate", "2"], "expected a probability"),
        (["--steps", "0"], "--steps: expected at least 1"),
        (["--noise-multiplier", "0.1"], "--noise-multiplier: expected enough noise for one step"),
        (["--noise-multiplier", "-1"], "expected noise_multiplier >= 0"),
        (["--plot", "/nowhere/plot.png"], "--plot: expected a .png file in a folder that exists"),
        (["--plot", "plot.foo"], "--plot: expected a .png file in a folder that exists"),
        (["--sample-rate", "0"], "--sample-rate: expected a probability above 0"),
        (["--noise-multiplier", "inf"], "--noise-multiplier: expected enough noise"),
        (["--epsilon", "inf"], "--epsilon: expected a finite budget"),
        (["--device", "meta"], "--device: expected one that computes"),
        (["--device", "abacus"], "--device: abacus cannot be used"),
        (["--seed", "-1"], "expected seed >= 0"),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(
    options, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options]) == 2
    out = capsys.readouterr()
    assert message in out.err
    assert out.err.count("\n") == 1
    assert out.out == ""


def test_an_unknown_option_exits_with_2(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--frobnicate"])
    assert exit_.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    assert "demo" in capsys.readouterr().out


def test_the_network_has_the_published_size_and_comes_from_the_key():
    first, again, other = (training.tanh_cnn(dp.key(seed)) for seed in (1, 1, 2))
    params = dp.named_params(first)
    assert sum(p.numel() for p in params.values()) == 26_010
    assert all(torch.equal(p, dp.named_params(again)[n]) for n, p in params.items())
    assert not torch.equal(params["0.weight"], dp.named_params(other)["0.weight"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "sample rate 0.1, budget"),
        (["--full"], "sample rate 0.25, budget"),
        (["--full", "--sample-rate", "0.02"], "sample rate 0.02, budget"),
    ],
)
def test_the_length_of_a_run(options, expected, tmp_path, capsys, monkeypatch):
    plans = []

    def seen(_model, _data, plan, _key):
        plans.append(plan)
        yield training.Progress(plan.steps, 0.5, 0.5, 3.0)

    monkeypatch.setattr("dpfunc.commands.demo.command.train_private", seen)
    monkeypatch.setattr("dpfunc.commands.demo.command.train_plain", seen)
    assert main(["demo", *options, "--seed", "1", "--plot", str(tmp_path / "plot.png")]) == 0
    assert expected in capsys.readouterr().out
    assert {plan.steps for plan in plans} == {100 if "--full" in options else 40}
