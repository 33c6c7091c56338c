"""L15, for samples that several processes share: clipped, and released, as by one process."""

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist

import dpfunc as dp
from dpfunc.distributed import (
    DataParallel,
    TensorParallel,
    cut,
    fan_in,
    fan_out,
    shared_release,
)
from dpfunc.distributed.processes import Processes
from dpfunc.distributed.tensor_parallel import norms_of_parts
from tests.distributed.processes import run, said_by
from tests.distributed.runs import CLIPS, KEY

SIZE, RATE, SHARDS, WORDS, WIDTH, HEADS = 40, 0.4, 2, 12, 8, 4
AXES = {
    "up.weight": 0,
    "up.bias": 0,
    "down.weight": 1,
    "table": 1,
    "q": 0,
    "k": 0,
    "v": 0,
    "out": 1,
}


def problem():
    shapes = {
        "table": (WORDS, WIDTH),
        "norm": (WIDTH,),
        "q": (WIDTH, WIDTH),
        "k": (WIDTH, WIDTH),
        "v": (WIDTH, WIDTH),
        "out": (WIDTH, WIDTH),
        "up.weight": (16, WIDTH),
        "up.bias": (16,),
        "down.weight": (3, 16),
        "down.bias": (3,),
    }
    params = {
        name: 0.5 * dp.normal(dp.key(20 + place), shape)
        for place, (name, shape) in enumerate(shapes.items())
    }
    ids = (dp.uniform(dp.key(2), (SIZE, 5)) * WORDS).long()
    return params, (ids, torch.arange(SIZE) % 3)


def loss_of(mesh):
    """Embedding by columns, attention by heads, Colwise and Rowwise; ``mesh`` None: whole."""
    count = 1 if mesh is None else mesh.size()

    def loss(params, ids, label):
        places = gathered_columns(F.embedding(ids, params["table"]), mesh)
        shared = fan_out(places * params["norm"], mesh)
        q, k, v = (
            F.linear(shared, params[name]).unflatten(-1, (HEADS // count, -1)).transpose(0, 1)
            for name in "qkv"
        )
        heads = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        mixed = places + fan_in(F.linear(heads.transpose(0, 1).flatten(1), params["out"]), mesh)
        inner = fan_out(torch.tanh(mixed), mesh)
        hidden = torch.relu(F.linear(inner, params["up.weight"], params["up.bias"]))
        scores = fan_in(F.linear(hidden, params["down.weight"]), mesh) + params["down.bias"]
        return F.cross_entropy(scores.mean(0)[None], label[None])

    return loss


def gathered_columns(own, mesh):
    """Whole rows from columns of them: each process adds its own into zeros."""
    if mesh is None:
        return own
    width, rank = own.shape[-1], mesh.get_local_rank()
    return fan_in(F.pad(own, (rank * width, WIDTH - (rank + 1) * width)), mesh)


def private_for(loss, clip, engine="auto"):
    noise = dp.GaussianNoise(1.0, key=KEY)
    return dp.PrivateGrad(
        loss, clip=CLIPS[clip], noise=noise, expected_batch_size=SIZE * RATE, engine=engine
    )


def train(shape, clip, engine="auto"):
    """Two steps: whole releases, whole norms, and how many numbers this process released."""
    torch.set_num_threads(1)
    params, data = problem()
    mesh = dist.init_device_mesh("cpu", shape, mesh_dim_names=("data", "tensor"))
    params = cut(params, mesh, AXES)
    private = private_for(loss_of(mesh["tensor"]), clip, engine)
    parallel = TensorParallel(private, mesh=mesh, shards=SHARDS)
    return steps(parallel, params, data)


def steps(parallel, params, data):
    state, releases, norms = parallel.init(params), [], []
    for step in range(2):
        drawn = parallel.batches(KEY, step, size=SIZE, rate=RATE)
        grads, state, aux = parallel.update(
            params, [tuple(part[i] for part in data) for i in drawn], state
        )
        params = {name: param - 0.1 * grads[name] for name, param in params.items()}
        releases.append(torch.cat([whole(grads[name]).flatten() for name in sorted(grads)]))
        norms.append(aux.norms)
    own = sum(getattr(g, "_local_tensor", g).numel() for g in grads.values())
    return {"releases": releases, "norms": norms, "state": repr(state["noise"]), "own": own}


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@pytest.fixture(scope="module")
def alone():
    params, data = problem()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        clip: steps(DataParallel(private_for(loss_of(None), clip), shards=SHARDS), params, data)
        for clip in ("Clip", "ClipPerLayer")
    }
    torch.set_num_threads(threads)


LATTICE = 2.0**-6 * 0.5 / (SIZE * RATE)  # no step of a release is larger than this

SHAPES = [((1, 2), "Clip", "auto"), ((2, 2), "ClipPerLayer", "auto")]
NIGHTLY = [((1, 4), "Clip", "auto"), ((1, 2), "ClipPerLayer", "dense"), ((2, 1), "Clip", "auto")]


@pytest.mark.parametrize(
    ("shape", "clip", "engine"),
    [*SHAPES, *(pytest.param(*case, marks=pytest.mark.nightly) for case in NIGHTLY)],
)
def test_shared_samples_are_released_as_by_one_process(alone, shape, clip, engine):
    expected = alone[clip]
    by_rank = run(train, shape[0] * shape[1], shape, clip, engine)
    for rank in by_rank:
        assert isinstance(rank, dict), rank
        assert rank["state"] == expected["state"]
        for ours, theirs in zip(rank["releases"], expected["releases"], strict=True):
            assert (ours - theirs).abs().max() <= LATTICE
            assert int((ours != theirs).sum()) <= 5
        assert all(
            torch.equal(one, other)
            for one, other in zip(rank["releases"], by_rank[0]["releases"], strict=True)
        )
        assert rank["own"] < sum(map(len, expected["releases"])) / 2 or shape[1] == 1
    if shape[0] == 1:
        for ours, theirs in zip(by_rank[-1]["norms"], expected["norms"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


class Parts(Processes):
    """The second of two processes of a sample; the first had other squares."""

    own = 1
    count = 2

    def add_up_(self, tensors):
        squares = torch.tensor([[9.0, 16.0], [4.0, 1.0]])  # of "cut" and of "whole"
        alike = torch.tensor([[0.5, 0.25], [4.0, 1.0]])  # losses, and "whole" again
        for tensor, first in zip(tensors, (squares, alike, alike), strict=True):
            tensor.add_(first)


def test_a_whole_parameter_counts_once_and_parts_add_up():
    ours = {"whole": torch.tensor([2.0, 1.0]), "cut": torch.tensor([4.0, 3.0])}
    losses = torch.tensor([0.5, 0.25])
    norms = norms_of_parts(ours, losses, {"whole"}, Parts())
    assert norms["cut"].tolist() == [5, 5]
    assert norms["whole"].tolist() == [2, 1]
    with pytest.raises(RuntimeError, match=r"others for \['loss'\]"):
        norms_of_parts(ours, losses + 0.1, {"whole"}, Parts())
    with pytest.raises(RuntimeError, match=r"others for \['whole'\]"):
        norms_of_parts({**ours, "whole": torch.tensor([2.0, 1.1])}, losses, {"whole"}, Parts())


def grids():
    """The sizes that the grids of a step were made for."""
    sizes, plain = [], shared_release.exact_grid
    shared_release.exact_grid = lambda *args, size, parts: (
        sizes.append(size) or plain(*args, size=size, parts=parts)
    )
    train((1, 2), "Clip")
    return sizes


def test_the_grid_is_that_of_all_parameters_together():
    size = sum(param.numel() for param in problem()[0].values())
    for found in run(grids, 2):
        assert found == [size] * 4


def wrong(change):
    torch.set_num_threads(1)
    params, (ids, label) = problem()
    rank = dist.get_rank()
    mesh = dist.init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    axes = {**AXES, **({"down.bias": 0} if change == "odd" else {})}
    cut_params = cut(params, mesh, axes)
    if change == "mesh":
        mesh = mesh["tensor"]
    parallel = TensorParallel(private_for(loss_of(mesh["tensor"]), "Clip"), mesh=mesh, shards=2)
    if change == "plain":
        cut_params = params
    if change == "whole and inside":
        plain = loss_of(mesh["tensor"])
        inside = torch.tanh(torch.arange(16.0 / 2) + 8 * rank)  # a part of work for each

        def loss(params, ids, label):
            return plain(params, ids, label) + fan_in(
                (inside * params["norm"]).square().sum(), mesh["tensor"]
            )

        parallel = TensorParallel(private_for(loss, "Clip"), mesh=mesh, shards=2)
    if change == "no fan_in":
        parallel = TensorParallel(private_for(loss_of(None), "Clip"), mesh=mesh, shards=2)
        cut_params = cut(params, mesh, {"up.bias": 0, "up.weight": 0, "down.weight": 1})
    if change == "samples" and rank == 1:
        ids = ids + 1
    batches = [(ids[i] % WORDS, label[i]) for i in parallel.batches(KEY, 0, size=SIZE, rate=RATE)]
    parallel.update(cut_params, batches, parallel.init(cut_params))
    return "released"


WRONG = {
    "odd": "cut: expected an axis 0 or 1 that 2 processes divide for down.bias",
    "mesh": "TensorParallel: expected a mesh of two dimensions over all 2 processes",
    "plain": "TensorParallel: expected parameters that lie on the 2 processes",
    "whole and inside": "the same gradients of whole parameters, on the processes of a sample but",
    "no fan_in": "TensorParallel: expected the same loss, and the same gradients of whole par",
    "samples": "TensorParallel: expected the same samples on the processes that share them",
}


def test_what_each_wrong_use_says():
    for said in run(said_by, 2, wrong, ["nothing", *WRONG]):
        assert said[0] == "released"
        for words, ours in zip(WRONG.values(), said[1:], strict=True):
            assert words in ours, ours
