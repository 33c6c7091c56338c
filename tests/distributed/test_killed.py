"""Processes killed at any point of a step, and a run that goes on with another number of them."""

import hashlib
import os
import random
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import distributed as dist

import dpfunc as dp
from dpfunc.distributed import DataParallel
from tests.distributed.processes import run
from tests.distributed.runs import KEY, RATE, SHARDS, SIZE, flat, private_for, problem


def train(folder, steps, kill=None):
    """From the last whole checkpoint on; ``kill``: (rank, seconds) until SIGKILL. What was made."""
    folder = Path(folder)
    _, params, loss_fn, (x, y) = problem()
    parallel = DataParallel(private_for(loss_fn, "one that learns"), shards=SHARDS)
    state = parallel.init(params)
    done = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    if done:
        box = {"params": params, "state": state}
        dcp.load(box, checkpoint_id=folder / str(max(done)))
        params, state = box["params"], parallel.resume(box["state"], key=KEY)
        assert state["step"] == max(done)
    if kill is not None and kill[0] == dist.get_rank():
        own = os.getpid()
        threading.Timer(kill[1], lambda: os.kill(own, signal.SIGKILL)).start()
    for step in range(state["step"], steps):
        drawn = parallel.batches(KEY, step, size=SIZE, rate=RATE)
        grads, state, _ = parallel.update(params, [(x[i], y[i]) for i in drawn], state)
        digest = hashlib.sha256(flat(grads).numpy().tobytes()).hexdigest()
        with (folder / f"released by {dist.get_rank()}").open("a") as file:
            file.write(f"{step} {digest}\n")
        params = {name: param - 0.5 * grads[name] for name, param in params.items()}
        part = folder / f"{step + 1} in the making"
        dcp.save({"params": params, "state": state}, checkpoint_id=part)
        dist.barrier()
        if dist.get_rank() == 0:
            part.rename(folder / str(step + 1))
            shutil.rmtree(folder / str(step - 1), ignore_errors=True)
        dist.barrier()
    return int(state["step"])


def released(folder):
    """Every digest that any process released, by step."""
    found = {}
    for path in folder.glob("released by *"):
        for line in path.read_text().splitlines():
            step, _, digest = line.partition(" ")
            if len(digest) == 64:  # a line may end where its process did
                found.setdefault(int(step), []).append(digest)
    return found


def last_whole(folder):
    return max([int(p.name) for p in folder.iterdir() if p.name.isdigit()], default=0)


@pytest.mark.filterwarnings("ignore")  # of torch.distributed.checkpoint
def test_a_checkpoint_of_three_processes_is_read_by_two(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    assert run(train, 1, str(alone), 3) == [3]
    assert run(train, 3, str(shared), 2) == [2, 2, 2]
    assert run(train, 2, str(shared), 3) == [3, 3]
    expected = {step: set(digests) for step, digests in released(alone).items()}
    assert {step: set(digests) for step, digests in released(shared).items()} == expected
    assert [len(digests) for _, digests in sorted(released(shared).items())] == [3, 3, 2]


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [20])
def test_killed_at_any_point_and_resumed_on_another_number(tmp_path, kills):
    rng = random.Random(1)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    worlds, killed, twice = [2, 3, 4, 1], 0, 0
    while killed < kills:
        world = worlds[killed % len(worlds)]
        kill = rng.randrange(world), rng.uniform(0.0, 1.5)
        results = run(train, world, str(shared), last_whole(shared) + 60, kill)
        assert results[kill[0]] == "gone", results
        assert all(other == "gone" or "Error" in str(other) for other in results)
        killed += 1
    steps = last_whole(shared) + 2
    assert run(train, 3, str(shared), steps) == [steps] * 3
    run(train, 1, str(alone), steps)
    expected, found = released(alone), released(shared)
    assert sorted(found) == sorted(expected) == list(range(steps))
    for step, digests in found.items():
        assert set(digests) == set(expected[step]), step
        twice += len(digests) > 4
    print(f"{killed} kills over {steps} steps, {twice} of them released again after a crash")
    assert steps > kills / 2
    assert twice > 0


def test_the_key_of_another_run_does_not_resume():
    _, params, loss_fn, _ = problem()
    ours = DataParallel(private_for(loss_fn), shards=2)
    theirs = DataParallel(private_for(loss_fn, key=dp.key(8)), shards=2)
    with pytest.raises(ValueError, match="GaussianNoise: expected a state of this key"):
        theirs.resume(ours.init(params), key=dp.key(8))
    assert torch.is_tensor(params["0.weight"])
