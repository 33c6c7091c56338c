"""L15: on any number of processes the same step releases the same numbers, bit for bit."""

import os

import pytest
import torch

import dpfunc as dp
from dpfunc.distributed.processes import Processes
from dpfunc.step.private_grad import PrivateGrad
from tests.distributed.processes import run, said_by
from tests.distributed.runs import (
    CLIPS,
    KEY,
    MODELS,
    RATE,
    SHARDS,
    SIZE,
    bits,
    flat,
    private_for,
    problem,
    some,
    train,
)


def require_equal(runs, expected):
    for each in runs:
        assert isinstance(each, dict), each
        assert torch.equal(bits(each), bits(expected))
        assert repr(each["state"]) == repr(expected["state"])


def several(cases):
    """One start of the processes for many cases."""
    torch.set_num_threads(1)
    return [train(**case) for case in cases]


CASES = [
    {"clip": "one that learns"},
    *({"clip": clip} for clip in CLIPS if clip != "one that learns"),
    *({"model": model, "clip": "one that learns"} for model in MODELS),
    {"rate": 0.03},  # most shards are empty
    {"rate": 0.0},  # all of them: noise alone
    {"rate": 1.0},
    {"microbatch_size": 2, "clip": "one that learns"},
    {"engine": "dense"},
]


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    yield several(CASES)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_any_number_of_processes_releases_what_one_does(alone, world):
    numbers = some(CASES, world)
    by_rank = run(several, world, [CASES[number] for number in numbers])
    for rank in by_rank:
        assert isinstance(rank, list), rank
    for place, number in enumerate(numbers):
        require_equal([rank[place] for rank in by_rank], alone[number])
    sizes = [by_rank[rank][0]["sizes"] for rank in range(world)]
    assert all(len(step) == SHARDS // world for rank in sizes for step in rank)
    assert sum(sum(rank[0]) for rank in sizes) == len(
        dp.sampling.poisson(KEY, 0, size=SIZE, rate=RATE)[0]
    )


def test_it_is_the_step_of_private_grad_but_for_rounding():
    _, params, loss_fn, (x, y) = problem()
    private = private_for(loss_fn)
    state, ours = private.init(params), train(1)["releases"][0]
    indices, _ = dp.sampling.poisson(KEY, 0, size=SIZE, rate=RATE)
    plain, _, _ = private.update(params, (x[indices], y[indices]), state)
    grid = (flat(plain)[flat(plain) != 0]).abs().min()
    assert (flat(ours) - flat(plain)).abs().max() <= 1.5 * grid  # a step of the lattice at most


def test_the_noise_is_that_of_one_release():
    """Without data: what every process releases has the deviation that is accounted for, once."""
    releases = run(train, 3, 3, 0.0)
    alone = torch.cat([flat(grads) for grads in releases[0]["releases"]])
    assert all(torch.equal(bits(each), bits(releases[0])) for each in releases)
    sigma = 0.5 / (SIZE * RATE)
    assert len(alone) > 200
    assert 0.85 * sigma < float(alone.std()) < 1.15 * sigma


class Counting(Processes):
    """Notes which collectives there are, and how large."""

    calls: list

    def gathered(self, own):
        Counting.calls.append(("gathered", tuple(own.shape[:1])))
        return super().gathered(own)

    def add_up_(self, tensors):
        Counting.calls.append(("added", tuple(t.numel() for t in tensors)))
        super().add_up_(tensors)


def counted(rates, clip):
    from dpfunc.distributed import data_parallel

    Counting.calls = []
    data_parallel.Processes = Counting
    found = []
    for rate in rates:
        train(1, rate=rate, clip=clip)
        found.append([name for name, _ in Counting.calls])
        Counting.calls = []
    return found


@pytest.mark.parametrize("clip", ["Clip", "one that learns"])
def test_so_many_collectives_whatever_the_data(clip):
    first, second = run(counted, 2, [0.0, 0.02, 0.3, 1.0], clip)
    expected = ["gathered"] * (1 + (clip == "one that learns")) + ["added"]
    assert first == second == [expected] * 4


def wrong(rank_one):
    """A step on which process 1 does something else: what each process says."""
    rank = torch.distributed.get_rank()
    _, params, loss_fn, (x, y) = problem()
    key = dp.key(12) if rank_one == "key" and rank == 1 else KEY
    private = private_for(loss_fn, key=key)
    shards = 4 if rank_one == "shards" and rank == 1 else SHARDS
    parallel = dp.distributed.DataParallel(private, shards=shards)
    state = parallel.init(params)
    size, rate, of_draw = SIZE, RATE, KEY
    if rank == 1:
        size, rate = SIZE - 8 * (rank_one == "size"), RATE + 0.01 * (rank_one == "rate")
        of_draw = dp.key(13) if rank_one == "key of the draws" else KEY
    batches = [(x[i], y[i]) for i in parallel.batches(of_draw, 0, size=size, rate=rate)]
    if rank == 1:
        if rank_one == "step":
            state = {**state, "noise": private.noise.next_state(state["noise"])}
        if rank_one == "parameters":
            params = {name: param + 1e-7 for name, param in params.items()}
        if rank_one == "shape":
            params = {name: param.double() for name, param in params.items()}
            batches = [(x.double(), y) for x, y in batches]
        if rank_one == "error":
            batches = [(x[:, :-1], y) for x, y in batches]
        if rank_one == "a shard twice":
            largest = max(batches, key=lambda batch: len(batch[0]))
            batches[0] = tuple(torch.cat(both) for both in zip(batches[0], largest, strict=True))
        if rank_one == "a shard less":
            del batches[0]
    parallel.update(params, batches, state)
    return "released"


DIFFERENT = r"RuntimeError: DataParallel.update: expected the same {} on all processes but got"
FAILED = "expected all 2 processes to finish their part of the step but got an error on rank 1"
WRONG = {
    "key": DIFFERENT.format("key, noise multiplier and state of the noise"),
    "key of the draws": DIFFERENT.format("draw of records"),
    "size": DIFFERENT.format("draw of records"),
    "rate": DIFFERENT.format("draw of records"),
    "step": DIFFERENT.format("key, noise multiplier and state of the noise"),
    "shards": DIFFERENT.format("number of shards"),
    "parameters": DIFFERENT.format("parameters"),
    "shape": DIFFERENT.format("names, shapes and dtypes of the parameters"),
    "error": FAILED,
    "a shard twice": FAILED,
    "a shard less": FAILED,
}


def test_what_is_wrong_on_one_process_is_an_error_on_all_before_anything_is_released():
    first, second = run(said_by, 2, wrong, ["nothing", *WRONG])
    assert first[0] == second[0] == "released"
    for case, ours, theirs in zip(WRONG, first[1:], second[1:], strict=True):
        assert WRONG[case] in ours, case
        assert "released" not in (ours, theirs), case
    own = dict(zip(WRONG, second[1:], strict=True))
    assert "ValueError: DataParallel.update: expected the" in own["a shard twice"]
    assert "ValueError: DataParallel.update: expected a list of 6 batches" in own["a shard less"]
    assert own["error"].startswith("RuntimeError: ")
    assert FAILED not in own["error"]


def leaves_or_steps():
    if torch.distributed.get_rank() == 1:
        os._exit(3)
    return train(1)


def test_a_process_that_dies_is_an_error_on_the_others():
    said, gone = run(leaves_or_steps, 2)
    assert gone == "gone"
    assert said.startswith(
        "RuntimeError: dpfunc.distributed: expected all 2 processes to take part"
    )
    assert "init_process_group(timeout=...)" in said


def test_the_engine_and_private_grad_still_refuse_several_processes():
    (said, _) = run(plain_update, 2)
    assert said.startswith("RuntimeError: PrivateGrad.update: expected one process")


def plain_update():
    _, params, loss_fn, (x, y) = problem()
    private = private_for(loss_fn)
    assert isinstance(private, PrivateGrad)
    return private.update(params, (x, y), private.init(params))
