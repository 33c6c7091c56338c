"""L15, for models of fully_shard: each process has its rows, and all are the one release."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from tests.distributed.processes import run, said_by
from tests.distributed.runs import CLIPS, KEY, SIZE, problem, some

SHARDS = 12
CASES = [
    ("mlp", "one that learns"),
    ("convolutions", "ClipPerLayer"),
    ("tied words", "Clip"),
    ("mlp, first layer frozen", "Clip"),
]


def sharded_by_layer(model, **options):
    from torch.distributed.fsdp import fully_shard

    for part in list(model.children()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            fully_shard(part, **options)
    return fully_shard(model, **options)


def engine_for(model, clip="Clip", momentum=0.9, **options):
    own = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.3, momentum=momentum)
    options = {"group": dist.group.WORLD, "shards": SHARDS, **options}
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=24.0,
        key=KEY,
        noise_multiplier=1.0,
        delta=1e-3,
        clip=CLIPS[clip],
        **options,
    ).attach(optimizer)
    return engine, optimizer


def steps(engine, optimizer, model, data, until, loss=F.cross_entropy):
    """Every release, whole."""
    found = []
    for x, y in engine.loader(TensorDataset(*data)):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        before = engine.steps_taken
        optimizer.step()
        if engine.steps_taken > before:
            grads = [p.grad for p in model.parameters() if p.requires_grad]
            found.append(torch.cat([whole(grad).flatten() for grad in grads]))
        if engine.steps_taken == until:
            break
    return found


def train(name, clip, sharded):
    model, _, _, data = problem(name.partition(",")[0])
    if "frozen" in name:
        model[0].requires_grad_(False)
    if sharded:
        sharded_by_layer(model)
    engine, optimizer = engine_for(model, clip)
    releases = steps(engine, optimizer, model, data, 2)
    last = torch.cat([whole(param).flatten() for param in model.parameters()]).detach()
    states = [value for state in optimizer.state.values() for value in state.values()]
    kept = sum(local(value).numel() for value in states)
    numbers = torch.cat([*releases, last])
    return {"numbers": numbers, "kept": kept, "engine": repr(engine.state_dict())}


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def several(cases, sharded):
    torch.set_num_threads(1)
    return [train(*case, sharded) for case in cases]


@pytest.fixture(scope="module")
def alone():
    (found,) = run(several, 1, CASES, False)
    assert isinstance(found, list), found
    return found


@pytest.mark.parametrize(
    "world", [2, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 3, 4))]
)
def test_rows_of_fully_shard_are_the_release_of_the_plain_model(alone, world):
    numbers = range(len(CASES)) if world == 2 else some(CASES, world)
    by_rank = run(several, world, [CASES[number] for number in numbers], True)
    for rank in by_rank:
        assert isinstance(rank, list), rank
        for ours, number in zip(rank, numbers, strict=True):
            expected = alone[number]
            assert torch.equal(ours["numbers"], expected["numbers"])
            assert ours["engine"] == expected["engine"]
    for place, number in enumerate(numbers):
        assert sum(rank[place]["kept"] for rank in by_rank) == alone[number]["kept"]


def saved_after(until, folder):
    """A run that goes on from what is in ``folder``, if there is anything, and is saved there."""
    model, _, _, data = problem("mlp")
    sharded_by_layer(model)
    engine, optimizer = engine_for(model, momentum=0.0)
    if (folder / ".metadata").exists():
        box = {"model": model.state_dict(), "engine": engine.state_dict()}
        dcp.load(box, checkpoint_id=folder)
        model.load_state_dict(box["model"])
        engine.load_state_dict(box["engine"])
    releases = steps(engine, optimizer, model, data, until)
    dcp.save({"model": model.state_dict(), "engine": engine.state_dict()}, checkpoint_id=folder)
    return releases


@pytest.mark.filterwarnings("ignore")  # of torch.distributed.checkpoint
def test_a_checkpoint_of_two_processes_is_read_by_three(tmp_path):
    first = run(saved_after, 2, 1, tmp_path)
    later = run(saved_after, 3, 2, tmp_path)
    (alone,) = run(plain_steps, 1, 2)
    for rank in (*first, *later):
        assert isinstance(rank, list), rank
    assert all(torch.equal(rank[0], alone[0]) for rank in first)
    assert all(torch.equal(rank[0], alone[1]) for rank in later)


def plain_steps(until):
    model, _, _, data = problem("mlp")
    return steps(*engine_for(model, momentum=0.0), model, data, until)


def mixing(out, y):
    return F.cross_entropy(out, y) * out.std()


def with_penalty(weight):
    return lambda out, y: F.cross_entropy(out, y) + whole(weight).square().sum()


def one_wrong_loop(change):
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    model, _, _, data = problem("mlp")
    rank, options, loss = dist.get_rank(), {}, F.cross_entropy
    if change == "mixed precision":
        sharded_by_layer(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    elif change == "a part":
        fully_shard(model[0])
    else:
        sharded_by_layer(model)
    if change == "no group":
        options = {"group": None, "shards": None}
    if change == "a mixing loss" and rank == 1:
        loss = mixing
    engine, optimizer = engine_for(model, **options)
    if change == "microbatches":
        engine.loader(TensorDataset(*data), microbatch_size=3)
    if change == "a weight in the loss":
        loss = with_penalty(model[0].weight)
    return len(steps(engine, optimizer, model, data, 1, loss))


WRONG = {
    "mixed precision": "expected fully_shard without a MixedPrecisionPolicy",
    "a part": "expected fully_shard on the whole model",
    "no group": "expected one process but got 'a process group of 2'",
    "a mixing loss": "one term for each sample",
    "microbatches": "expected no microbatch_size beside a model of fully_shard",
    "a weight in the loss": "expected every use of a parameter inside of the model's own forward",
}


def on_another_mesh():
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    model, _, _, _ = problem("mlp")
    fully_shard(model, mesh=mesh["b"])
    engine_for(model, group=mesh["a"].get_group())
    return "made"


def test_rows_on_other_processes_than_the_records_are_refused():
    """Two processes would work on the same shards, and add them up: each record twice."""
    for said in run(on_another_mesh, 4):
        assert "PrivacyEngine: expected parameters on one mesh of the 2 processes" in said, said


def test_what_each_wrong_use_says_on_all_processes():
    first, second = run(said_by, 2, one_wrong_loop, ["nothing", *WRONG])
    assert first[0] == second[0] == 1, (first[0], second[0])
    for case, ours, theirs in zip(WRONG, first[1:], second[1:], strict=True):
        assert WRONG[case] in str(ours), (case, ours)
        assert WRONG[case] in str(theirs), (case, theirs)
