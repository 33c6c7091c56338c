"""The accountant's commands from the outside: what they print, draw and refuse."""

import json
import subprocess
import sys

import numpy as np
import pytest

from dpfunc import accounting
from dpfunc.__main__ import main
from dpfunc.commands.options import rounded_up, six_digits_up
from dpfunc.commands.plan import Row, smallest_within
from dpfunc.commands.plots import tradeoff

RUN = ["--noise-multiplier", "1", "--sample-rate", "0.01", "--steps", "1000"]
BUDGET = ["--epsilon", "3", "--delta", "1e-5"]
COMMANDS = {
    "epsilon": [*RUN, "--delta", "1e-5"],
    "noise": [*BUDGET, "--sample-rate", "0.01", "--steps", "1000"],
    "steps": [*BUDGET, "--noise-multiplier", "1", "--sample-rate", "0.01"],
    "plan": [*BUDGET, "--dataset-size", "1000", "--epochs", "5", "--batch-sizes", "10", "100"],
}


def printed(capsys, *arguments):
    assert main(arguments) == 0
    out = capsys.readouterr()
    assert out.err == ""
    return out.out


def as_json(capsys, *arguments):
    return json.loads(printed(capsys, *arguments, "--json"))


def test_epsilon(capsys):
    out = printed(capsys, "epsilon", *COMMANDS["epsilon"])
    assert out.startswith("epsilon  1.8283\n")  # the truth is 1.828237: never rounded down
    assert "1.828237" in out
    assert "Poisson(0.01, Gaussian(1.0)) * 1000" in out
    assert "adding or removing one record" in out


def test_epsilon_as_json(capsys):
    answer = as_json(capsys, "epsilon", *COMMANDS["epsilon"])
    event = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    bounds = accounting.epsilon_bounds(event, delta=1e-5)
    assert answer["epsilon"] == {"lower": bounds.lower, "upper": bounds.upper}
    assert answer["engine"] == bounds.engine
    assert accounting.from_json(json.dumps(answer["event"])) == event


def test_sizes_and_epochs_say_the_same(capsys):
    sizes = ["--batch-size", "10", "--dataset-size", "1000", "--epochs", "10"]
    options = ["--noise-multiplier", "1", *sizes, "--delta", "1e-5"]
    assert as_json(capsys, "epsilon", *options) == as_json(capsys, "epsilon", *COMMANDS["epsilon"])


def test_epsilon_of_an_event_in_a_file(capsys, tmp_path):
    event = accounting.Laplace(2.0) * 3 + accounting.Gaussian(5.0)
    (tmp_path / "ledger.json").write_text(accounting.to_json(event))
    options = ["--event", str(tmp_path / "ledger.json"), "--delta", "1e-6"]
    answer = as_json(capsys, "epsilon", *options)
    assert answer["epsilon"]["upper"] == accounting.epsilon(event, delta=1e-6)


def test_epsilon_under_another_relation(capsys):
    answer = as_json(capsys, "epsilon", *COMMANDS["epsilon"], "--relation", "replace_one")
    assert answer["relation"] == "replace_one"
    assert answer["epsilon"]["upper"] == pytest.approx(2.843441, rel=1e-5)


def test_an_infinite_epsilon(capsys):
    options = ["--noise-multiplier", "0", "--sample-rate", "0.5", "--steps", "3", "--delta", "0.1"]
    assert "infinite" in printed(capsys, "epsilon", *options)
    assert as_json(capsys, "epsilon", *options)["epsilon"]["upper"] == "inf"


def test_noise(capsys):
    answer = as_json(capsys, "noise", *COMMANDS["noise"])
    assert answer["epsilon"] <= 3.0
    budget = {"target_epsilon": 3.0, "delta": 1e-5}
    sigma = accounting.noise_multiplier(**budget, sample_rate=0.01, steps=1000)
    assert answer["noise_multiplier"] == sigma
    shown = printed(capsys, "noise", *COMMANDS["noise"]).split()[2]
    assert sigma <= float(shown) < sigma * (1 + 1e-5)


def test_steps(capsys):
    answer = as_json(capsys, "steps", *COMMANDS["steps"])
    budget = {"target_epsilon": 3.0, "delta": 1e-5}
    steps = accounting.steps(**budget, noise_multiplier=1.0, sample_rate=0.01)
    assert answer["steps"] == steps
    assert answer["epsilon"] <= 3.0
    assert f"steps   {steps} ({steps / 100:.4g} epochs)" in printed(
        capsys, "steps", *COMMANDS["steps"]
    )


@pytest.mark.parametrize("name", ["noise", pytest.param("steps", marks=pytest.mark.nightly)])
def test_other_targets_than_epsilon(name, capsys):
    run = [option for option in COMMANDS[name] if option not in BUDGET]
    answer = as_json(capsys, name, *run, "--advantage", "0.1")
    assert 0.0999 < answer["advantage"] <= 0.1
    words = printed(capsys, name, *run, "--advantage", "0.1")
    assert f"advantage {six_digits_up(answer['advantage'])} of 0.1" in words
    answer = as_json(capsys, name, *run, "--tradeoff", "0.01", "0.98")
    assert answer["alpha"] == 0.01
    assert 0.98 <= answer["beta"] < 0.9801


@pytest.mark.parametrize("name", ["noise", "steps", "plan"])
def test_another_relation_asks_for_more(name, capsys):
    usual = as_json(capsys, name, *COMMANDS[name])
    other = as_json(capsys, name, *COMMANDS[name], "--relation", "replace_one")
    assert other["relation"] == "replace_one"
    if name == "steps":
        assert other["steps"] < usual["steps"]
    elif name == "noise":
        assert other["noise_multiplier"] > usual["noise_multiplier"]
    else:
        assert other["rows"][0]["noise_multiplier"] > usual["rows"][0]["noise_multiplier"]


@pytest.mark.parametrize("name", ["noise", "steps"])
def test_what_was_released_before_counts(name, capsys, tmp_path):
    file = tmp_path / "before.json"
    before = accounting.Gaussian(4.0)
    file.write_text(accounting.to_json(before))
    sigma = {"noise": "--steps=50", "steps": "--noise-multiplier=2"}[name]
    run = (name, "--epsilon=3", "--delta=1e-5", "--sample-rate=1", sigma)
    text = printed(capsys, *run, "--after", str(file))
    assert "before" in text
    assert "Gaussian(4.0), counted as well" in text
    found = as_json(capsys, *run, "--after", str(file))
    count, noise = (50, found["noise_multiplier"]) if name == "noise" else (found["steps"], 2.0)
    both = before + accounting.Gaussian(noise) * count
    assert found["epsilon"] == pytest.approx(accounting.epsilon(both, delta=1e-5), rel=1e-12)
    assert found["epsilon"] <= 3
    alone = as_json(capsys, *run)
    if name == "noise":
        assert alone["noise_multiplier"] < found["noise_multiplier"]
    else:
        assert alone["steps"] > found["steps"]


def test_plan(capsys):
    answer = as_json(capsys, "plan", *COMMANDS["plan"])
    assert [row["batch_size"] for row in answer["rows"]] == [10, 100]
    for row in answer["rows"]:
        assert row["steps"] == 5000 / row["batch_size"]
        event = accounting.dp_sgd(
            noise_multiplier=row["noise_multiplier"],
            sample_rate=row["sample_rate"],
            steps=row["steps"],
        )
        assert 2.99 < accounting.epsilon(event, delta=1e-5) <= 3.0
        assert row["noise_per_step"] == row["noise_multiplier"] / row["batch_size"]
        assert row["relative_noise"] >= 0.999
    assert answer["chosen"] in answer["rows"]
    out = printed(capsys, "plan", *COMMANDS["plan"])
    (marked,) = [line for line in out.splitlines() if line.lstrip().startswith("->")]
    assert marked.split()[1] == str(answer["chosen"]["batch_size"])


def test_the_whole_data_set_as_one_batch_has_the_least_noise(capsys):
    options = [*BUDGET, "--dataset-size", "500", "--epochs", "3", "--batch-sizes", "500"]
    (row,) = as_json(capsys, "plan", *options)["rows"]
    assert row["relative_noise"] == pytest.approx(1.0, rel=1e-3)
    assert row["steps"] == 3


def test_the_noise_that_is_printed_meets_the_budget(capsys):
    """A number that is rounded down on its way to the screen would not."""
    out = printed(capsys, "plan", *COMMANDS["plan"])
    rows = [line.replace("->", "").split() for line in out.splitlines()[1:3]]
    for batch, _, steps, sigma, *_ in rows:
        run = {"noise_multiplier": float(sigma), "sample_rate": int(batch) / 1000}
        event = accounting.dp_sgd(**run, steps=int(steps))
        assert accounting.epsilon(event, delta=1e-5) <= 3.0


@pytest.mark.parametrize(("slack", "batch"), [(0.0, 4), (0.25, 3), (1.0, 2), (9.0, 1)])
def test_the_marked_batch_is_the_smallest_within_the_slack(slack, batch):
    noise = {1: 5.0, 2: 1.9, 3: 1.25, 4: 1.0}
    rows = [Row(size, 0.1, 9, 1.0, 1.0, relative) for size, relative in noise.items()]
    assert smallest_within(rows, slack).batch_size == batch


@pytest.mark.parametrize(
    ("name", "suffix", "magic"), [("epsilon", ".png", b"\x89PNG"), ("plan", ".svg", b"<?xml")]
)
def test_a_picture(name, suffix, magic, tmp_path, capsys):
    path = tmp_path / f"picture{suffix}"
    options = COMMANDS[name]
    printed(capsys, name, *options, "--plot", str(path))
    assert path.read_bytes().startswith(magic)


def test_the_drawn_tradeoff_curve_is_valid_and_that_of_the_gaussian():
    from scipy.stats import norm

    alpha = np.linspace(0, 1, 101)
    epsilons = np.linspace(0, 5, 200)
    event = accounting.Gaussian(1.0)
    deltas = np.array([accounting.delta(event, epsilon=float(e)) for e in epsilons])
    exact = norm.cdf(norm.ppf(1 - alpha) - 1)
    drawn = tradeoff(alpha, epsilons, deltas)
    assert (drawn <= exact + 1e-12).all()
    np.testing.assert_allclose(drawn, exact, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epsilon", *RUN, "--delta", "-1"], "expected a probability 0 <= delta <= 1"),
        (["epsilon", *RUN, "--delta", "nan"], "expected a probability 0 <= delta <= 1"),
        (["epsilon", "--delta", "1e-5"], "--noise-multiplier and either --steps or --epochs"),
        (["epsilon", *RUN, "--epochs", "3", "--delta", "1e-5"], "either --steps or --epochs"),
        (
            ["epsilon", *RUN, "--batch-size", "3", "--delta", "1e-5"],
            "either --sample-rate, or both",
        ),
        (["epsilon", *RUN, "--event", "x", "--delta", "1e-5"], "no other description of the run"),
        (["epsilon", "--event", "/nowhere", "--delta", "1e-5"], "--event: expected a file"),
        (["epsilon", *RUN, "--delta", "1e-5", "--plot", "x.foo"], "--plot: expected a file ending"),
        (["epsilon", *RUN, "--delta", "1e-5", "--plot", "/no/x.png"], "a folder that exists"),
        (["noise", *COMMANDS["noise"], "--epsilon", "0"], "expected target_epsilon > 0"),
        (["noise", *COMMANDS["noise"], "--advantage", "0.1"], "expected one target"),
        (["noise", *RUN[2:]], "expected one target"),
        (["steps", *RUN[:4], "--advantage", "0.1", "--plot", "x.png"], "--plot: expected a budget"),
        (["steps", *RUN[:4], "--tradeoff", "0.5", "0.6"], "alpha + beta < 1"),
        (["noise", *BUDGET, "--steps", "9"], "--sample-rate, or both"),
        (
            ["noise", *BUDGET, "--batch-size", "9", "--dataset-size", "3", "--steps", "9"],
            "--batch-size: expected between 0 and --dataset-size",
        ),
        (
            ["noise", *BUDGET, "--batch-size", "9", "--dataset-size", "0", "--steps", "9"],
            "--dataset-size: expected at least 1",
        ),
        (["noise", *BUDGET, "--sample-rate", "0", "--epochs", "9"], "a sample rate above 0"),
        (["noise", *BUDGET, "--sample-rate", "0.1", "--epochs", "-1"], "a finite number >= 0"),
        (["noise", *BUDGET, "--sample-rate", "1.1", "--steps", "9"], "expected a probability"),
        (["steps", *COMMANDS["steps"], "--noise-multiplier", "-1"], "expected noise_multiplier"),
        (["plan", *COMMANDS["plan"], "--slack", "-1"], "--slack: expected at least 0"),
        (["plan", *COMMANDS["plan"], "--epochs", "0"], "--epochs: expected a finite number > 0"),
        (["plan", *COMMANDS["plan"], "--batch-sizes", "0"], "--batch-sizes: expected sizes"),
        (["plan", *COMMANDS["plan"], "--dataset-size", "0"], "--dataset-size: expected at least 1"),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert message in out.err
    assert out.err.count("\n") == 1
    assert out.out == ""


def test_bad_json_gets_one_line_and_exit_code_2(capsys, tmp_path):
    (tmp_path / "bad.json").write_text('{"format": 1}')
    assert main(["epsilon", "--event", str(tmp_path / "bad.json"), "--delta", "1e-5"]) == 2
    assert "from_json: expected the document" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_example(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"python -m dpfunc {name} --" in out
    assert "--json" in out
    assert "--plot FILE" in out


def test_the_examples_in_the_help_run(capsys):
    from importlib import import_module

    for name in ("epsilon", "noise", "steps"):  # that of plan takes long
        text = import_module(f"dpfunc.commands.{name}").DESCRIPTION.replace("\\\n", " ")
        lines = [line for line in text.splitlines() if "python -m dpfunc" in line]
        assert lines
        for line in lines:
            if "--event" not in line:
                assert main(line.split()[3:]) == 0
    capsys.readouterr()


def test_the_accountants_commands_do_not_import_torch():
    code = (
        "import sys; from dpfunc.__main__ import main; "
        f"main({['epsilon', *COMMANDS['epsilon']]!r}); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


BANDS = ["--batch-size", "390.625", "--dataset-size", "50000", "--steps", "2048"]
BANDS += ["--strategy", "banded:16", "--sampler", "cyclic"]


def test_noise_and_epsilon_of_a_strategy(capsys):
    """The row of 16 bands in docs/correlated.md; what is printed is what the library says."""
    found = as_json(capsys, "noise", "--epsilon", "8", "--delta", "1e-6", *BANDS)
    assert found["noise_multiplier"] == pytest.approx(1.2230, abs=2e-3)
    sigma = str(found["noise_multiplier"])
    answer = as_json(capsys, "epsilon", "--noise-multiplier", sigma, "--delta", "1e-6", *BANDS)
    assert 7.99 < answer["epsilon"]["upper"] <= 8.0 + 1e-9
    event = accounting.from_json(json.dumps(answer["event"]))
    assert (
        event
        == accounting.OneRecord(
            accounting.Poisson(0.125, accounting.Gaussian(found["noise_multiplier"]))
        )
        * 128
    )


SHORT = ["--noise-multiplier", "2", "--delta", "1e-5", "--batch-size", "10"]
SHORT += ["--dataset-size", "80", "--steps", "16"]


@pytest.mark.parametrize(
    ("options", "event"),
    [
        (["--sampler", "poisson"], accounting.Poisson(0.125, accounting.Gaussian(2.0)) * 16),
        (
            ["--sampler", "fixed-size", "--relation", "replace_one"],
            accounting.WithoutReplacement(10, 80, accounting.Gaussian(2.0)) * 16,
        ),
        (
            ["--sampler", "allocation"],
            accounting.RandomAllocation(1, 8, accounting.Gaussian(2.0)) * 2,
        ),
        (
            ["--sampler", "shuffled", "--relation", "zero_out"],
            accounting.Shuffled(accounting.Gaussian(2.0)) * 2,
        ),
    ],
)
def test_samplers_by_name(capsys, options, event):
    answer = as_json(capsys, "epsilon", *SHORT, *options)
    assert accounting.from_json(json.dumps(answer["event"])) == event


@pytest.mark.parametrize("strategy", ["fractional:4", "buffered:1", "square-root"])
def test_strategies_without_amplification_by_name(capsys, strategy):
    answer = as_json(
        capsys, "epsilon", *SHORT, "--sampler", "balls-in-bins", "--strategy", strategy
    )
    event = accounting.from_json(json.dumps(answer["event"]))
    assert isinstance(event, accounting.Gaussian)
    assert 0.3 < event.noise_multiplier < 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strategy", "banded:4"], "no theorem is known"),
        (["--strategy", "banded:4", "--sampler", "cyclic:2"], "at most 2 bands"),
        (["--strategy", "banded"], "say how many bands"),
        (["--strategy", "banded:x"], "a name and a number"),
        (["--sampler", "bags"], "one of poisson"),
        (["--sampler", "cyclic"], "cyclic:P with P"),
        (["--sampler", "cyclic:9"], "cyclic:P with P"),
        (["--sampler", "shuffled:3"], "a number with cyclic alone"),
        (["--sampler", "shuffled"], "a record more shifts"),
    ],
)
def test_schemes_that_are_none(capsys, options, said):
    assert main(["epsilon", *SHORT, *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("proven", "shown"),
    [(1.0, "1.0000"), (1 + 2**-52, "1.0001"), (0.1, "0.1000"), (1e300, f"1{'0' * 300}.0000")],
)
def test_an_epsilon_is_shown_no_smaller_than_proven(proven, shown):
    assert rounded_up(proven) == shown


@pytest.mark.parametrize(
    ("proven", "shown"),
    [
        (1.0, "1"),
        (1 + 2**-52, "1.00001"),
        (0.81358412, "0.813585"),
        (1.2345600001e-7, "1.23457e-07"),
    ],
)
def test_a_noise_multiplier_is_shown_no_smaller_than_proven(proven, shown):
    assert six_digits_up(proven) == shown
