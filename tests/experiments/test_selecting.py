"""`select`: K is random, the price is that of the theorem, and no run is below what is claimed."""

import json
import math

import numpy as np
import pytest

import dpfunc as dp
from dpfunc import accounting, experiments
from dpfunc.experiments.selecting import is_below
from dpfunc.random.subsets import uniform_index

EVENT = accounting.Gaussian(2.0)
GRID = {"lr": [0.1, 0.2, 0.4]}


def selected(path, seed=0, run=None, event=EVENT, **options):
    settings = {"score": "accuracy", "mean_runs": 10, "delta": 1e-6} | options

    def right(config, key):
        return {"accuracy": config["lr"] + float(dp.uniform(key, ())) / 100, "event": EVENT}

    grid = options.pop("grid", GRID)
    return experiments.select(
        run or right, grid, event=event, path=path, key=dp.key(seed), **settings
    )


def test_the_best_is_given_with_the_price_of_choosing(tmp_path):
    found = selected(tmp_path / "rows.jsonl", seed=3)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    count = dp.sampling.runs_to_make(dp.fold_in(dp.key(3), "select"), mean_runs=10, shape=1)
    assert len(lines) == count > 3
    assert found.best.config["lr"] == 0.4
    assert found.event == accounting.PrivateSelection(EVENT, mean_runs=10, shape=1)
    assert found.epsilon == accounting.epsilon(found.event, delta=1e-6)
    assert found == selected(tmp_path / "rows.jsonl", seed=3)  # resumed: nothing made again


def test_settings_are_drawn_from_the_grid_and_runs_have_keys_of_their_own(tmp_path):
    keys, drawn = [], []

    def run(config, key):
        keys.append(key)
        drawn.append(config["lr"])
        return {"accuracy": 0.0, "event": EVENT}

    for seed in range(12):
        selected(tmp_path / str(seed), seed=seed, run=run)
    assert len(set(keys)) == len(keys) > 60
    counts = [drawn.count(lr) for lr in GRID["lr"]]
    assert np.square(np.array(counts) - len(drawn) / 3).sum() / (len(drawn) / 3) < 18


def test_the_worst_is_not_a_number_and_the_first_of_equals_counts(tmp_path):
    numbers = iter([float("nan"), 0.5, 0.5] + [float("nan")] * 100)
    found = selected(
        tmp_path / "rows", seed=3, run=lambda c, k: {"accuracy": next(numbers), "event": EVENT}
    )
    seeds = [json.loads(line)["seed"] for line in (tmp_path / "rows").read_text().splitlines()]
    assert found.best.seed == seeds[1]


def test_the_best_does_not_tell_which_of_the_runs_it_was(tmp_path):
    """Run i is the first success: the i before it failed, which no price of choosing covers.

    A run says 1 with probability 3/4 or 1/4, which is log(3)-DP. One of a geometric number of runs,
    of mean 20, is the best at index 5 or later with probability 0.16 under 1/4, 0.0007 under 3/4.
    """
    event = accounting.PureDP(math.log(3))
    price = accounting.PrivateSelection(event, mean_runs=20, shape=1)
    late = {p: sum(0.95**k * (1 - p) ** k * p for k in range(5, 200)) for p in (0.25, 0.75)}
    loss = accounting.epsilon(price, delta=1e-3)
    assert late[0.25] - 1e-3 > math.exp(loss) * late[0.75]  # an index would be a breach

    def run(config, key):
        return {"accuracy": 1.0, "not_private/loss": 0.3, "event": EVENT}

    seen = {selected(tmp_path / str(seed), seed, run=run).best.seed for seed in range(4)}
    assert len(seen) == 4  # the first run is the best of each
    assert min(seen) > 2**40


def test_what_the_event_does_not_cover_is_not_shown(tmp_path):
    def run(config, key):
        return {"accuracy": 1.0, "not_private/loss": 0.3, "event": EVENT}

    best = selected(tmp_path / "rows", run=run).best
    assert best.results == {"accuracy": 1.0}
    assert best.seconds == 0


def test_runs_of_a_sweep_or_of_another_key_are_refused(tmp_path):
    """Even where the settings are the same, and there are enough of them."""
    path, grid = tmp_path / "rows", {"lr": [0.1]}

    def run(config, key):
        return {"accuracy": 1.0, "event": EVENT}

    experiments.sweep(run, grid, seeds=3, path=path, key=dp.key(3))
    for seed in (3, 4):
        with pytest.raises(ValueError, match="a file of this selection's own"):
            experiments.select(
                run,
                grid,
                score="accuracy",
                event=EVENT,
                mean_runs=50,
                path=path,
                key=dp.key(seed),
                delta=1e-6,
            )


def test_no_run_is_an_answer(tmp_path):
    seeds = [
        s
        for s in range(20)
        if selected(tmp_path / str(s), s, mean_runs=0.5, shape=float("inf")).best is None
    ]
    assert 5 < len(seeds) < 19


@pytest.mark.parametrize(
    ("event", "below"),
    [
        (EVENT, True),
        (accounting.Gaussian(2.1), True),
        (accounting.Gaussian(1.9), False),
        (accounting.Poisson(0.5, accounting.Gaussian(2.0)), True),
        (accounting.Poisson(0.5, accounting.Gaussian(1.9)), False),
        (accounting.Gaussian(2.0) * 2, False),
        (accounting.Gaussian(9.0) * 2, False),
        (accounting.PureDP(0.01), False),
        (None, False),
    ],
)
def test_every_run_has_to_be_below_the_event(tmp_path, event, below):
    def run(config, key):
        return {"accuracy": 1.0} | ({} if event is None else {"event": event})

    if below:
        assert selected(tmp_path / "rows", run=run).best.event == event
    else:
        with pytest.raises(ValueError, match="select: expected runs that release no more than"):
            selected(tmp_path / "rows", run=run)


def test_the_rate_counts():
    most = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    less = accounting.dp_sgd(noise_multiplier=1.2, sample_rate=0.005, steps=900)
    more = accounting.dp_sgd(noise_multiplier=1.2, sample_rate=0.02, steps=900)
    assert is_below(less, most)
    assert not is_below(more, most)


def test_runs_that_were_seen_before_are_refused(tmp_path):
    path = tmp_path / "rows"
    experiments.sweep(
        lambda c, k: {"accuracy": 1.0}, {"lr": [7.0]}, seeds=1, path=path, key=dp.key(0)
    )
    with pytest.raises(ValueError, match="a file of this selection's own"):
        selected(path)


def test_a_score_of_private_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="part of the private output"):
        selected(tmp_path / "rows", score="not_private/accuracy")
    with pytest.raises(ValueError, match="Row: expected one of"):
        selected(tmp_path / "rows", score="missing")


def test_the_key_of_the_settings_is_not_that_of_their_number():
    """K and which settings are drawn come of different keys: neither tells the other."""
    key = dp.key(0)
    assert not np.array_equal(
        uniform_index(dp.fold_in(key, "settings"), 8, below=2**40),
        uniform_index(dp.fold_in(key, "select"), 8, below=2**40),
    )
