"""`sweep`: every run once, whatever happens to the file, and no two with one key."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

import dpfunc as dp
from dpfunc import accounting, experiments
from tests.mutation import ROOT

KEY = dp.key(4)
GRID = {"sigma": [1.0, 2.0], "lr": [0.1, 0.5]}


class Runs:
    """A run that remembers with what it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, config, key):
        self.calls.append((json.dumps(config), key))
        return {
            "answer": float(dp.normal(key, ())) * config["sigma"],
            "not_private/loss": math.nan if config["lr"] > 0.3 else 0.25,
            "event": accounting.Gaussian(config["sigma"]),
        }


def swept(path, run=None, **options):
    settings = {"seeds": 2, "path": path, "key": KEY, "delta": 1e-5} | options
    return experiments.sweep(Runs() if run is None else run, GRID, **settings)


def essence(rows):
    return [(r.config, r.seed, str(r.results), r.event, r.epsilon, r.delta) for r in rows]


def test_every_setting_and_seed_has_a_row(tmp_path):
    run = Runs()
    rows = swept(tmp_path / "rows.jsonl", run)
    assert [(r.config["sigma"], r.config["lr"], r.seed) for r in rows] == [
        (sigma, lr, seed) for sigma in (1.0, 2.0) for lr in (0.1, 0.5) for seed in (0, 1)
    ]
    assert rows[0].epsilon == accounting.epsilon(accounting.Gaussian(1.0), delta=1e-5)
    assert math.isnan(rows[2].results["not_private/loss"])
    assert rows[0].versions["dpfunc"] == dp.__version__
    assert len({key for _, key in run.calls}) == 8


def test_no_two_runs_share_a_key_and_the_file_has_none(tmp_path):
    """Nor do two settings of one seed, or two sweeps of different settings."""
    one, other = Runs(), Runs()
    swept(tmp_path / "rows.jsonl", one)
    experiments.sweep(other, [{"sigma": 3.0, "lr": 0.1}], seeds=1, path=tmp_path / "b", key=KEY)
    keys = [key.secret_bytes for _, key in one.calls + other.calls]
    assert len(set(keys)) == 9
    text = (tmp_path / "rows.jsonl").read_text()
    assert not any(secret.hex() in text for secret in [*keys, KEY.secret_bytes])
    for line in text.splitlines():
        json.loads(line, parse_constant=pytest.fail)  # what any language reads: no NaN


def test_what_is_there_is_not_run_again(tmp_path):
    first = swept(tmp_path / "rows.jsonl")
    run = Runs()
    assert essence(swept(tmp_path / "rows.jsonl", run)) == essence(first)
    assert not run.calls
    assert len(swept(tmp_path / "rows.jsonl", run, seeds=3)) == 12
    assert len(run.calls) == 4


def test_killed_at_any_byte_it_goes_on_to_the_same_rows(tmp_path):
    """Law: for every beginning of the file, the same rows, and none twice."""
    path = tmp_path / "rows.jsonl"
    expected, whole = essence(swept(path)), path.read_bytes()
    lines = [number for number, byte in enumerate(whole, 1) if byte == ord("\n")]
    for cut in {0, 1, *range(2, len(whole), 197), *lines, *(end - 1 for end in lines)}:
        path.write_bytes(whole[:cut])
        run = Runs()
        assert essence(swept(path, run)) == expected
        assert len(run.calls) == 8 - whole[:cut].count(b"\n")
        seen = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({(row["hash"], row["seed"]) for row in seen}) == len(seen) == 8


def test_rows_of_another_key_are_refused_and_the_file_stays(tmp_path):
    """They are not what this sweep would give; a file that does not tell its key is no better."""
    path = tmp_path / "rows.jsonl"
    first, whole = swept(path), path.read_bytes()
    run = Runs()
    for grid in (GRID, {"sigma": [3.0], "lr": [0.1]}):
        with pytest.raises(ValueError, match=r"sweep: .* another key, .* or a new path"):
            experiments.sweep(run, grid, seeds=2, path=path, key=dp.key(5), delta=1e-5)
    assert not run.calls
    assert path.read_bytes() == whole
    assert essence(swept(path)) == essence(first)
    assert len({row.fingerprint for row in first}) == 1
    own = [json.loads(line) for line in whole.decode().splitlines()]
    path.write_text("".join(json.dumps({n: v for n, v in row.items() if n != "fingerprint"}) + "\n"
                            for row in own))  # fmt: skip
    with pytest.raises(ValueError, match="another key"):
        swept(path)


SCRIPT = """
import sys, time
import dpfunc as dp
from dpfunc import experiments
def run(config, key):
    time.sleep(0.05)
    return {"answer": float(dp.normal(key, ()))}
experiments.sweep(run, {"x": list(range(30))}, seeds=1, path=sys.argv[1], key=dp.key(4))
"""


def test_a_killed_process_left_whole_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = path.read_bytes().count(b"\n")
    calls = []

    def run(config, key):
        calls.append(config)
        return {"answer": float(dp.normal(key, ()))}

    options = {"seeds": 1, "key": dp.key(4)}
    rows = experiments.sweep(run, {"x": list(range(30))}, path=path, **options)
    fresh = experiments.sweep(run, {"x": list(range(30))}, path=tmp_path / "fresh", **options)
    assert 3 <= kept < 30
    assert len(calls) == 30 - kept + 30
    assert [row.results for row in rows] == [row.results for row in fresh]


def test_an_event_read_back_is_the_event(tmp_path):
    run = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    path = tmp_path / "rows.jsonl"
    for _ in range(2):
        (row,) = experiments.sweep(lambda c, k: {"event": run}, [{}], seeds=1, path=path, key=KEY)
        assert row.event == run
        assert row.epsilon is None


def test_the_order_of_names_is_no_setting(tmp_path):
    run = Runs()
    path = tmp_path / "rows.jsonl"
    configs = [{"sigma": 1.0, "lr": 0.1}, {"lr": 0.1, "sigma": 1.0}]
    rows = experiments.sweep(run, configs, seeds=1, path=path, key=KEY)
    assert len(rows) == len(run.calls) == 1


def test_rows_that_were_changed_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    swept(path)
    text = path.read_text()
    path.write_text(text.replace('"lr": 0.1', '"lr": 0.2', 1))
    with pytest.raises(ValueError, match="settings as they were written, line 1"):
        swept(path)
    path.write_text("not a row\n" + text)
    with pytest.raises(ValueError, match="line 1 of"):
        swept(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 0}, "seeds >= 1"),
        ({"delta": 1.0}, "a delta"),
        ({"run": lambda c, k: 1.0}, "a dict of numbers from your run"),
        ({"run": lambda c, k: {"a": "b"}}, "numbers from your run"),
        ({"run": lambda c, k: {"event": 1.0}}, "an event of dpfunc.accounting"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        swept(tmp_path / "rows.jsonl", **options)


@pytest.mark.parametrize("grid", [{}, {"lr": 0.1}, {"lr": []}, [{"lr": math.nan}], [{"f": abs}]])
def test_a_grid_that_is_none_is_refused_but_one_empty_setting_is_one(tmp_path, grid):
    if grid == {}:
        assert (
            len(experiments.sweep(lambda c, k: {}, grid, seeds=1, path=tmp_path / "x", key=KEY))
            == 1
        )
        return
    with pytest.raises(ValueError, match=r"sweep: expected"):
        experiments.sweep(Runs(), grid, seeds=1, path=tmp_path / "x", key=KEY)
