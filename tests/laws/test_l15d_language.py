"""L15, for GPT-2 with tied embeddings and for LoRA: a nightly law, as the models take long."""

import re

import pytest
import torch
from torch import distributed as dist
from torch.func import functional_call
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.distributed import DataParallel, shard
from dpfunc.integrations.token_loss import next_token_losses
from tests.distributed.processes import run
from tests.distributed.runs import KEY

SIZE, RATE, SHARDS, WORDS = 48, 0.3, 4, 30
WAYS = "functions", "rows", "loop", "loop of fully_shard"


def problem(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS,
        n_positions=8,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = transformers.GPT2LMHeadModel(config)
    if name == "LoRA":
        peft = pytest.importorskip("peft")
        lora = peft.LoraConfig(
            r=2, target_modules=["c_attn"], fan_in_fan_out=True, lora_dropout=0.0
        )
        model = peft.get_peft_model(model, lora)
    ids = (dp.uniform(dp.key(3), (SIZE, 8)) * WORDS).long()
    return model.train(), ids


def functions(name, sharded):
    model, ids = problem(name)
    params = {n: p.clone() for n, p in dp.named_params(model).items()}
    if sharded:
        params = shard(params, dist.init_device_mesh("cpu", (dist.get_world_size(),)))

    def losses(params, ids):
        return next_token_losses(functional_call(model, params, (ids,)), ids)

    noise = dp.GaussianNoise(1.0, key=KEY)
    private = dp.PrivateGrad(
        dp.batched(losses), clip=dp.Clip(0.5), noise=noise, expected_batch_size=SIZE * RATE
    )
    parallel = DataParallel(private, shards=SHARDS)
    state, releases = parallel.init(params), []
    for step in range(2):
        drawn = parallel.batches(KEY, step, size=SIZE, rate=RATE)
        grads, state, _ = parallel.update(params, [ids[i] for i in drawn], state)
        params = {n: p - 0.5 * grads[n] for n, p in params.items()}
        releases += [whole(grads[n]).flatten() for n in sorted(grads)]
    return torch.cat(releases)


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def loop(name, sharded=False):
    model, ids = problem(name)
    if sharded:
        from torch.distributed.fsdp import fully_shard

        for part in [m for n, m in model.named_modules() if re.fullmatch(r".*\bh\.\d", n)]:
            fully_shard(part)
        fully_shard(model)
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.3)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=SIZE * RATE,
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        delta=1e-3,
        key=KEY,
        group=dist.group.WORLD,
        shards=SHARDS,
    ).attach(optimizer)
    releases = []
    for (batch,) in engine.loader(TensorDataset(ids)):
        optimizer.zero_grad()
        next_token_losses(model(batch), batch).mean().backward()
        before = engine.steps_taken
        optimizer.step()
        if engine.steps_taken > before:
            releases += [whole(p.grad).flatten() for p in own]
        if engine.steps_taken == 2:
            break
    return torch.cat(releases)


def all_ways(name, sharded):
    torch.set_num_threads(1)
    return [
        *(functions(name, False), functions(name, sharded)),
        *(loop(name), loop(name, sharded)),
    ]


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["GPT-2", "LoRA"])
def test_language_models_release_the_same_on_any_number_of_processes(name):
    (alone,) = run(all_ways, 1, name, False, patience=300)
    assert isinstance(alone, list), alone
    assert torch.equal(alone[0], alone[1])
    for world in (2, 4):
        for rank in run(all_ways, world, name, True, patience=300):
            assert isinstance(rank, list), rank
            for way, ours, expected in zip(WAYS, rank, alone, strict=True):
                assert torch.equal(ours, expected), (world, way, int((ours != expected).sum()))
    print(f"{name}: 0 of {sum(map(len, alone))} numbers differ on 2 and 4 processes")
