"""L15, for parameters that are cut into rows: each process releases its own, and all are one."""

import pytest
import torch
from torch import distributed as dist

import dpfunc as dp
from dpfunc.distributed import DataParallel, shard
from tests.distributed.processes import run
from tests.distributed.runs import CLIPS, KEY, RATE, SHARDS, SIZE, private_for, problem, some


def scaled(model):
    """The problem with a parameter without an axis."""
    _, params, loss_fn, data = problem(model)
    own = {**params, "scale": torch.tensor(1.1)}

    def loss_of(params, x, y):
        plain = {name: param for name, param in params.items() if name != "scale"}
        return params["scale"] * loss_fn(plain, x, y)

    return own, loss_of, data


def train(model, clip, sharded):
    torch.set_num_threads(1)
    params, loss_fn, (x, y) = scaled(model)
    parallel = DataParallel(private_for(loss_fn, clip), shards=SHARDS)
    if sharded:
        params = shard(params, dist.init_device_mesh("cpu", (dist.get_world_size(),)))
    leaves = {name: param.requires_grad_() for name, param in params.items()}
    optimizer = torch.optim.SGD(leaves.values(), lr=0.3, momentum=0.9)
    state, releases, made = parallel.init(leaves), [], 0
    for step in range(2):
        drawn = parallel.batches(KEY, step, size=SIZE, rate=RATE)
        grads, state, _ = parallel.update(leaves, [(x[i], y[i]) for i in drawn], state)
        for name, leaf in leaves.items():
            leaf.grad = grads[name]
        optimizer.step()
        made = sum(local(grad).numel() for grad in grads.values())
        releases.append(torch.cat([whole(grads[name]).flatten() for name in sorted(grads)]))
    last = torch.cat([whole(leaves[name]).flatten() for name in sorted(leaves)])
    return {"numbers": torch.stack([*releases, last]).detach(), "state": state, "made": made}


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


CASES = [("tied words", "one that learns"), ("mlp", "Clip"), ("convolutions", "ClipPerLayer")]


def several(cases, sharded):
    return [train(*case, sharded) for case in cases]


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    yield several(CASES, False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_rows_on_many_processes_are_the_whole_release(alone, world):
    numbers = some(CASES, world)
    by_rank = run(several, world, [CASES[number] for number in numbers], True)
    alone = [alone[number] for number in numbers]
    for rank in by_rank:
        assert isinstance(rank, list), rank
        for ours, expected in zip(rank, alone, strict=True):
            assert torch.equal(ours["numbers"], expected["numbers"])
            assert repr(ours["state"]) == repr(expected["state"])
    for number, expected in enumerate(alone):
        made = [rank[number]["made"] for rank in by_rank]
        assert sum(made) == expected["made"] + world - 1  # the one without an axis is on all
        assert all(each <= 0.7 * expected["made"] for each in made)


def wrongly_cut():
    mesh = dist.init_device_mesh("cpu", (2,))
    params, loss_fn, (x, y) = scaled("mlp")
    parallel = DataParallel(private_for(loss_fn), shards=2)
    cut = shard(params, mesh)
    said = []
    column = torch.distributed.tensor.distribute_tensor(
        params["0.weight"], mesh, [torch.distributed.tensor.Shard(1)]
    )
    for own in ({**cut, "0.weight": column}, {**cut, "0.weight": params["0.weight"]}):
        drawn = parallel.batches(KEY, 0, size=SIZE, rate=RATE)
        try:
            parallel.update(own, [(x[i], y[i]) for i in drawn], parallel.init(own))
        except ValueError as error:
            said.append(str(error))
    return said


def test_what_is_cut_in_another_way_is_refused():
    for said in run(wrongly_cut, 2):
        assert "expected parameters that are cut along their first axis" in said[0]
        assert "expected parameters that are all sharded, or none" in said[1]


class Unsaid(dp.Clip):
    """It learns from norms, and does not say at what price."""

    def init(self):
        return {"norm": 1.0}

    def update(self, norms, mask, state):
        return {"norm": float(dp.global_norm(norms).max())}


def learning_unsaid():
    mesh = dist.init_device_mesh("cpu", (1,))
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=Unsaid(0.5),
        noise=dp.GaussianNoise(1.0, key=KEY),
        expected_batch_size=2,
    )
    parallel = DataParallel(private, shards=1)
    cut = shard({"w": torch.zeros(2)}, mesh)
    parallel.update(cut, [3 * torch.eye(2)], parallel.init(cut))


def test_a_rule_that_learns_and_does_not_say_what_is_refused():
    (said,) = run(learning_unsaid, 1)
    assert "TypeError: PrivateGrad: expected a clip rule with a query_multiplier" in said


def on_another_mesh(of_mesh, of_group):
    """Parameters on the processes of one dimension, records on those of another one, or on all."""
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    params, loss_fn, (x, y) = scaled("mlp")
    group = None if of_group is None else mesh[of_group].get_group()
    parallel = DataParallel(private_for(loss_fn), shards=4, group=group)
    own = shard(params, mesh[of_mesh])
    drawn = parallel.batches(KEY, 0, size=SIZE, rate=RATE)
    parallel.update(own, [(x[i], y[i]) for i in drawn], parallel.init(own))
    return "released"


@pytest.mark.parametrize("of_group", ["a", None])
def test_rows_on_other_processes_than_the_records_are_refused(of_group):
    """They would count a record twice, or release two sums under one noise."""
    for said in run(on_another_mesh, 4, "b", of_group):
        assert "DataParallel.update: expected parameters on one mesh of the" in said, said


def test_rows_on_a_dimension_of_a_mesh():
    assert run(on_another_mesh, 4, "b", "b") == ["released"] * 4


def test_a_mesh_of_two_dimensions():
    class Mesh:
        ndim = 2

    with pytest.raises(ValueError, match="shard: expected a mesh of one dimension"):
        shard({"w": torch.ones(2)}, Mesh())


def test_a_noise_that_cannot_release_a_part():
    from dpfunc.distributed.sharded import released_rows

    with pytest.raises(TypeError, match="expected a noise that can release a part alone"):
        released_rows(CLIPS["Clip"], {}, {}, {}, 1.0)
    assert dp.GaussianNoise(1.0, key=KEY).add_range
