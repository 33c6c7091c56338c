"""L15, for loops: an engine on any number of processes releases the same, bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import dpfunc as dp
from tests.distributed.processes import run, said_by
from tests.distributed.runs import CLIPS, KEY, SIZE, problem, some

OPTIONS = {"noise_multiplier": 1.0, "max_grad_norm": 0.5, "delta": 1e-3}


def engine_for(model, *, batch_size=24.0, shards=12, key=KEY, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=batch_size,
        key=key,
        group=dist.group.WORLD,
        shards=shards,
        **{**OPTIONS, **options},
    ).attach(optimizer)
    return engine, optimizer


def train(
    steps=2,
    *,
    model="mlp",
    clip="Clip",
    shards=12,
    batch_size=24.0,
    microbatch_size=None,
    saved=None,
):
    """Every release, the last parameters, and how many parts the loop saw."""
    model, _, _, data = problem(model)
    rule = {"max_grad_norm": None, "clip": CLIPS[clip]}
    engine, optimizer = engine_for(model, batch_size=batch_size, shards=shards, **rule)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        engine.load_state_dict(saved["engine"])
    releases, parts = [], 0
    for x, y in engine.loader(TensorDataset(*data), microbatch_size=microbatch_size):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before = engine.steps_taken
        optimizer.step()
        parts += 1
        if engine.steps_taken > before:
            releases.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        if engine.steps_taken == steps:
            break
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return {
        "releases": releases,
        "parts": parts,
        "epsilon": engine.epsilon(),
        "saved": {**kept, "engine": engine.state_dict()},
        "share": engine.clipped_share(),
    }


def several(cases):
    torch.set_num_threads(1)
    return [train(**case) for case in cases]


CASES = [
    {"clip": "one that learns"},
    {},
    {"model": "convolutions"},
    {"batch_size": 2.0},  # most shards are empty
    {"microbatch_size": 1, "shards": 12},
]


@pytest.fixture(scope="module")
def alone():
    return run(several, 1, CASES)[0]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_any_number_of_processes_releases_what_one_does(alone, world):
    assert isinstance(alone, list), alone
    numbers = some(CASES, world)
    by_rank = run(several, world, [CASES[number] for number in numbers])
    for rank in by_rank:
        assert isinstance(rank, list), rank
        for ours, expected in zip(rank, [alone[number] for number in numbers], strict=True):
            assert len(ours["releases"]) == 2
            for here, there in zip(ours["releases"], expected["releases"], strict=True):
                assert torch.equal(here, there)
            assert ours["epsilon"] == expected["epsilon"]
            assert repr(ours["saved"]["engine"]) == repr(expected["saved"]["engine"])
            assert 0 <= ours["share"] <= 1 or ours["share"] != ours["share"]
        assert rank[0]["parts"] == 2 * 12 // world


def resumed(saved):
    torch.set_num_threads(1)
    return train(3, saved=saved)


def test_a_run_goes_on_with_another_number_of_processes(alone):
    (straight,) = run(train, 1, 3)
    (first, second) = run(resumed, 2, alone[1]["saved"])
    for ours in (first, second):
        assert isinstance(ours, dict), ours
        assert torch.equal(ours["releases"][0], straight["releases"][2])


def one_loop(change):
    """A loop in which process 1 does something else: what each process says."""
    rank = dist.get_rank()
    model, _, _, data = problem()
    odd = rank == 1
    if change == "a wrapped model":
        model = DistributedDataParallel(model)
    options = {}
    if change == "key" and odd:
        options["key"] = dp.key(99)
    if change == "batch_size" and odd:
        options["batch_size"] = 20.0
    if change == "shards":
        options["shards"] = 5
    engine, optimizer = engine_for(model, **options)
    if change == "weights" and odd:
        next(model.parameters()).data[0, 0] += 1.0
    data = TensorDataset(*data)
    if change == "a data set for each process":
        data = torch.utils.data.Subset(data, range(rank, SIZE, 2))
    if change == "drop_last":
        data = torch.utils.data.DataLoader(data, batch_size=12, drop_last=True)
    if change == "a DistributedSampler":
        sampler = torch.utils.data.DistributedSampler(data)
        data = torch.utils.data.DataLoader(data, batch_size=24, sampler=sampler)
    for x, y in engine.loader(data):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y, reduction="sum" if change == "loss" and odd else "mean")
        loss.backward()
        optimizer.step()
        if engine.steps_taken == 1:
            break
    return "released"


ALL = "expected the same {} on all processes but got"
WRONG = {
    "weights": ALL.format("parameters"),
    "key": ALL.format("key, noise multiplier and state of the noise"),
    "batch_size": ALL.format("sample_rate"),
    "shards": "ValueError: PrivacyEngine: expected shards as a multiple of the 2 processes",
    "a wrapped model": "PrivacyEngine: expected the plain module but got 'one wrapped in",
    "a data set for each process": "expected a dataset of sample_size = 96 samples but got 48",
    "drop_last": "expected a DataLoader of the engine's batch_size",
    "a DistributedSampler": "expected a DataLoader without a sampler",
    "loss": "expected all 2 processes to finish their part of the step but got an error on rank 1",
}


def test_what_each_wrong_use_says_and_that_nothing_is_released():
    first, second = run(said_by, 2, one_loop, ["nothing", *WRONG])
    assert first[0] == second[0] == "released"
    for case, ours, theirs in zip(WRONG, first[1:], second[1:], strict=True):
        assert WRONG[case] in ours, (case, ours)
        assert "released" not in (ours, theirs), case


def failing_loop():
    """In the middle of a batch, the loop itself fails on process 1."""
    model, _, _, data = problem()
    engine, optimizer = engine_for(model)
    with engine:
        for x, y in engine.loader(TensorDataset(*data)):
            if engine.steps_taken == 1 and dist.get_rank() == 1:
                raise KeyError("what the loop looked for")
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return "through"


def test_an_error_of_the_loop_itself_is_one_on_all_processes():
    first, second = run(failing_loop, 2)
    assert second == "KeyError: 'what the loop looked for'"
    assert first.startswith("RuntimeError: PrivacyEngine, optimizer.step(): expected all 2 process")
    assert "rank 1: KeyError: 'what the loop looked for'" in first


def weights_after_attach():
    rank = dist.get_rank()
    model, _, _, _ = problem()
    for tensor in model.parameters():
        tensor.data += rank
    model.register_buffer("odd", torch.full((2, 2), float(rank)).T)
    engine_for(model)
    everything = [*model.parameters(), *model.buffers()]
    return dp.distributed.shared_key().secret_bytes, torch.cat([t.flatten() for t in everything])


def another_model():
    model, _, _, _ = problem("mlp" if dist.get_rank() else "convolutions")
    engine_for(model)


def test_all_begin_with_the_weights_of_the_first_and_may_share_a_key():
    (key, first), (same, second) = run(weights_after_attach, 2)
    model, _, _, _ = problem()
    own = torch.cat([param.detach().flatten() for param in model.parameters()])
    assert torch.equal(first.detach(), torch.cat([own, torch.zeros(4)]))
    assert torch.equal(first, second)
    assert key == same
    assert key != run(weights_after_attach, 1)[0][0]
    said = run(another_model, 2)
    assert all("PrivacyEngine.attach: expected the same names, shapes" in each for each in said)


def without_group():
    model, _, _, _ = problem()
    return dp.PrivacyEngine(model, sample_size=SIZE, batch_size=24, key=KEY, **OPTIONS)


def other_ways():
    model, _, _, _ = problem()
    engine, _ = engine_for(model)
    return engine.parts()


def test_several_processes_without_a_group_and_other_peoples_loaders():
    said = run(without_group, 2)
    words = "RuntimeError: PrivacyEngine: expected one process but got 'a process group of 2'"
    assert all(words in each and "group=torch.distributed.group.WORLD" in each for each in said)
    assert all(
        "PrivacyEngine.parts: expected a part for each of the 6 shards" in e
        for e in run(other_ways, 2)
    )


def test_a_state_of_other_shards_is_refused(alone):
    model, _, _, _ = problem()
    engine = dp.PrivacyEngine(model, sample_size=SIZE, batch_size=24.0, key=KEY, **OPTIONS)
    with pytest.raises(
        ValueError,
        match=r"PrivacyEngine\.load_state_dict: expected a state of no shards but got 12",
    ):
        engine.load_state_dict(alone[0]["saved"]["engine"])
    with pytest.raises(ValueError, match="PrivacyEngine: expected shards beside a group of proc"):
        dp.PrivacyEngine(model, sample_size=SIZE, batch_size=24.0, key=KEY, shards=4, **OPTIONS)
