"""Arguments, edges and what each process gets: the release is tested by law L15."""

import math

import pytest
import torch

import dpfunc as dp
from dpfunc.distributed import DataParallel, agree, data_parallel, shared_release
from dpfunc.distributed.norms import gathered_norms
from dpfunc.distributed.processes import Processes, _buckets
from dpfunc.noise.exact_sums import OnGrid
from tests.distributed.processes import run
from tests.distributed.runs import KEY, SHARDS, private_for, problem, train


class One(Processes):
    """Process ``number`` of ``world``, without the others."""

    world, number = 1, 0
    count = property(lambda self: One.world)
    own = property(lambda self: One.number)


@pytest.fixture
def _of_three(monkeypatch):
    monkeypatch.setattr(data_parallel, "Processes", One)
    monkeypatch.setattr(One, "world", 3)
    monkeypatch.setattr(One, "number", 0)


@pytest.mark.usefixtures("_of_three")
@pytest.mark.parametrize("size", [5, 96, 1001])
def test_every_record_that_is_drawn_is_in_its_shard_on_one_process(size, monkeypatch):
    parallel = DataParallel(private_for(problem()[2]), shards=SHARDS)
    found = {}
    for number in range(3):
        monkeypatch.setattr(One, "number", number)
        assert list(parallel.own_shards) == list(range(number, SHARDS, 3))
        batches = parallel.batches(KEY, 4, size=size, rate=0.4)
        for shard, indices in zip(parallel.own_shards, batches, strict=True):
            assert (dp.sampling.shard_of(indices, SHARDS) == shard).all()
            assert shard not in found
            found[shard] = indices
    whole, _ = dp.sampling.poisson(KEY, 4, size=size, rate=0.4)
    assert torch.equal(torch.cat(list(found.values())).sort().values, whole)


@pytest.mark.usefixtures("_of_three")
@pytest.mark.parametrize("shards", [0, 4, 2.5, True, -3])
def test_a_number_of_shards_that_the_processes_do_not_divide(shards):
    with pytest.raises(ValueError, match="DataParallel: expected shards as a multiple of the 3"):
        DataParallel(private_for(problem()[2]), shards=shards)


def test_only_a_private_grad_whose_sums_do_not_depend_on_free_memory():
    with pytest.raises(TypeError, match="DataParallel: expected a PrivateGrad but got 'Clip'"):
        DataParallel(dp.Clip(1.0), shards=2)
    loss_fn = problem()[2]
    with pytest.raises(ValueError, match="DataParallel: expected a memory_budget beside"):
        DataParallel(private_for(loss_fn, microbatch_size="auto"), shards=2)
    DataParallel(private_for(loss_fn, microbatch_size="auto", memory_budget=10**9), shards=2)


def one_step(parallel, state=None, change=list):
    _, params, _, (x, y) = problem()
    drawn = parallel.batches(KEY, 0, size=96, rate=0.3)
    state = parallel.init(params) if state is None else state
    return parallel.update(params, change([(x[i], y[i]) for i in drawn]), state)


def test_the_batches_of_a_sampler_are_not_drawn_by_another():
    sampler = dp.sampling.CyclicPoisson(size=100, rate=0.2, cycle=2)
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(0.5),
        noise=dp.GaussianNoise(1.0, key=KEY),
        expected_batch_size=sampler.expected_batch_size,
        sampler=sampler,
    )
    with pytest.raises(ValueError, match="expected a PrivateGrad without a sampler"):
        DataParallel(private, shards=2).batches(KEY, 0, size=100, rate=0.1)


def test_wrong_batches():
    parallel = DataParallel(private_for(problem()[2]), shards=4)
    with pytest.raises(ValueError, match="expected a list of 4 batches, one for each of this"):
        one_step(parallel, change=lambda batches: batches[:3])
    with pytest.raises(ValueError, match="expected a list of 4 batches, one for each of this"):
        one_step(parallel, change=lambda batches: batches[0][0])
    with pytest.raises(ValueError, match=r"expected the \[.*\] records that batches\(...\) drew"):
        one_step(parallel, change=lambda batches: [batches[0]] * 4)


def test_a_state_of_other_shards_or_of_none():
    loss_fn = problem()[2]
    parallel = DataParallel(private_for(loss_fn), shards=4)
    other = DataParallel(private_for(loss_fn), shards=6).init({})
    for state in (other, private_for(loss_fn).init({})):
        with pytest.raises(ValueError, match="DataParallel: expected a state of 4 shards"):
            one_step(parallel, state=state)
        with pytest.raises(ValueError, match="DataParallel: expected a state of 4 shards"):
            parallel.resume(state, key=KEY)


def test_an_unclipped_sum_has_no_grid():
    private = dp.PrivateGrad(
        problem()[2],
        clip=dp.Clip(math.inf),
        noise=dp.GaussianNoise(0.0, key=KEY),
        expected_batch_size=30,
    )
    with pytest.raises(ValueError, match="DataParallel: expected a finite bound of a sample"):
        one_step(DataParallel(private, shards=4))


def test_sums_that_would_round_are_refused(monkeypatch):
    monkeypatch.setattr(shared_release, "most_samples", lambda grid, bound: 3)
    with pytest.raises(ValueError, match="expected at most 3 samples in a step of so many"):
        one_step(DataParallel(private_for(problem()[2]), shards=4))


def test_two_rules_of_one_kind_and_bound_are_not_the_same():
    """Where processes have parts of a parameter, each clipped by a rule of its own, both add up."""
    told = []
    for bounds in ({"v": 3.0, "w": 4.0}, {"v": 4.0, "w": 3.0}):
        private = dp.PrivateGrad(
            problem()[2],
            clip=dp.ClipPerLayer(bounds),
            noise=dp.GaussianNoise(1.0, key=KEY),
            expected_batch_size=30,
        )
        mine = shared_release.Contribution(OnGrid({}, 1.0, 5.0), [], torch.zeros(0))
        told.append(shared_release.facts_of_step(private, {}, private.init({}), mine))
    assert {name for name in told[0] if told[0][name] != told[1][name]} == {"clip rule"}


def test_resuming_repeats_a_release_and_the_ledger_counts_steps():
    straight = train(3)
    parallel = DataParallel(private_for(problem()[2]), shards=SHARDS)
    state = parallel.resume(straight["state"], key=KEY)
    assert state == straight["state"]
    assert state["step"] == state["noise"]["step"] == 3
    assert parallel.event(state, sample_rate=0.1).times == 3
    branch = parallel.resume(state, key=dp.key(5))
    assert branch["step"] == 3
    assert branch["noise"] != state["noise"]


def test_facts_that_differ_are_named(monkeypatch):
    def told(self, message, device):
        return [message, {**message, "facts": {**message["facts"], "size": "4"}}]

    monkeypatch.setattr(Processes, "tell", told)
    with pytest.raises(RuntimeError, match="agree: expected the same size on all processes but "):
        agree({"rate": 0.5, "size": 3, "data": torch.ones(3)})
    agree({"rate": 0.5, "size": 4})


def test_no_secret_and_no_long_text_is_told(monkeypatch):
    seen = []
    monkeypatch.setattr(Processes, "tell", lambda self, m, device: seen.append(m) or [m])
    agree({"tensor": torch.ones(10**5), "text": "x" * 10**5})
    one_step(DataParallel(private_for(problem()[2]), shards=4))
    assert all(len(repr(message)) < 4000 for message in seen)
    assert KEY.secret_bytes.hex()[:16] not in repr(seen)


def test_buckets_hold_every_tensor_in_order():
    tensors = [torch.empty(n) for n in (3, 2**22, 5, 2**22 - 5, 1, 2**23)]
    buckets = _buckets(tensors)
    assert [[len(t) for t in bucket] for bucket in buckets] == [
        [3],
        [2**22],
        [5, 2**22 - 5],
        [1],
        [2**23],
    ]


def test_norms_come_back_in_the_order_of_the_shards():
    norms = [{"w": torch.arange(n) + 0.5, "b": torch.ones(n)} for n in (3, 0, 2)]
    again = gathered_norms(norms, 3, Processes())
    for there, here in zip(norms, again, strict=True):
        assert all(torch.equal(there[name], here[name]) for name in there)


def transposed_sums():
    tensors = [torch.arange(6.0).view(2, 3).T, torch.ones(2), torch.tensor(3.0)]
    Processes().add_up_(tensors)
    return tensors


def test_sums_in_any_memory_order_are_added_up():
    for rank in run(transposed_sums, 2):
        assert torch.equal(rank[0], 2 * torch.arange(6.0).view(2, 3).T)
        assert rank[1].tolist() == [2, 2]
        assert float(rank[2]) == 6


def test_the_sums_are_sent_whatever_is_in_them(monkeypatch):
    sent = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda row, group: sent.append(len(row)))
    monkeypatch.setattr(One, "world", 2)
    for number in (0.0, 1.0):
        One().add_up_([torch.full((3,), number), torch.full((2, 2), number)])
    assert sent == [7, 7]


def test_poisson_samples_are_not_drawn_for_the_event_of_another_sampler():
    def parallel(sampler):
        return DataParallel(
            dp.PrivateGrad(
                problem()[2],
                clip=dp.Clip(1.0),
                noise=dp.GaussianNoise(1.0, key=KEY),
                expected_batch_size=sampler.expected_batch_size,
                sampler=sampler,
            ),
            shards=2,
        )

    with pytest.raises(ValueError, match="expected a PrivateGrad without a sampler, or with these"):
        parallel(dp.sampling.BallsInBins(size=40, bins=4)).batches(KEY, 0, size=40, rate=0.25)
    parallel(dp.sampling.Poisson(size=40, rate=0.25)).batches(KEY, 0, size=40, rate=0.25)


def test_sharded_releases_refuse_a_rule_that_learns_without_telling(monkeypatch):
    class Spy(dp.Clip):
        def update(self, norms, mask, state):
            return {"most": float(norms["w"].max())}

    private = dp.PrivateGrad(
        problem()[2], clip=Spy(1.0), noise=dp.GaussianNoise(1.0, key=KEY), expected_batch_size=1
    )
    params, released = {"w": torch.zeros(1)}, []
    mine = shared_release.Contribution(OnGrid({"w": torch.zeros(1)}, 1.0, 1.0), [], torch.zeros(1))
    agreed = mine, {"w": torch.ones(1)}
    monkeypatch.setattr(shared_release, "_agreed", lambda *_: agreed)
    monkeypatch.setattr(shared_release, "own_rows", lambda *_: params)
    monkeypatch.setattr(
        shared_release, "released_rows", lambda *args: released.append(1) or (params, args[3])
    )
    with pytest.raises(TypeError, match="query_multiplier"):
        shared_release.release_sharded(
            "it", private, Processes(), params, private.init(params), dict, whole={}
        )
    assert not released
