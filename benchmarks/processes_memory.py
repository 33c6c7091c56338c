"""The peak memory of a private step on several processes: whole parameters, rows, fully_shard.

    python -m benchmarks.processes_memory [--world 4] [--width 320] [--layers 8]

What is printed is how far a step that takes no look at the model (the least of three) goes above
what was resident before it, on the first process. A look needs all parameters on each process.
"""

import argparse
import ctypes
import gc
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.distributed import DataParallel, shard
from tests.distributed.processes import run

WORDS, LENGTH, CLASSES = 4000, 8, 5
KEY = dp.key(1)
FIRST, LAST = 5, 8  # no look is due in the steps between 4 and 8, unless there are too few samples


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        size, length, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(size, length, 3, 8, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Transformer(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.table = nn.Embedding(WORDS, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, ids):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def peak(way, width, layers, samples):
    """How far a step goes above what is resident before it, and that; MiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, world = Transformer(width, layers), dist.get_world_size()
    size = 16 * world
    ids = (dp.uniform(dp.key(2), (size, LENGTH)) * WORDS).long()
    labels = torch.arange(size) % CLASSES
    options = {"batch_size": samples * world, "shards": world}
    if way == "engine, fully_shard":
        from torch.distributed.fsdp import fully_shard

        for part in [model.table, *model.blocks]:
            fully_shard(part)
        fully_shard(model)
    take = by_engine if way.startswith("engine") else by_functions
    peaks, before = [], 0.0
    for step in take(model, ids, labels, sharded="rows" in way, **options):
        if step > FIRST:
            peaks.append((resident("VmHWM") - before, before))
        if step == LAST:
            break
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what looks have left free is not resident
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
    return min(peaks)


def by_engine(model, ids, labels, *, batch_size, shards, sharded):  # noqa: ARG001  # of the model already
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = dp.PrivacyEngine(
        model,
        sample_size=len(ids),
        batch_size=batch_size,
        noise_multiplier=1.0,
        delta=1e-3,
        max_grad_norm=1.0,
        key=KEY,
        group=dist.group.WORLD,
        shards=shards,
        steps=99,
    ).attach(optimizer)
    data = TensorDataset(ids, labels)
    while True:
        for x, y in engine.loader(data):
            yield engine.steps_taken
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            del x, y


def by_functions(model, ids, labels, *, batch_size, shards, sharded):
    params = {name: p.clone() for name, p in dp.named_params(model).items()}
    model.to("meta")
    if sharded:
        params = shard(params, dist.init_device_mesh("cpu", (dist.get_world_size(),)))

    def losses(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y, reduction="none")

    noise = dp.GaussianNoise(1.0, key=KEY)
    private = dp.PrivateGrad(
        dp.batched(losses), clip=dp.Clip(1.0), noise=noise, expected_batch_size=batch_size
    )
    parallel = DataParallel(private, shards=shards)
    state = parallel.init(params)
    rate = batch_size / len(ids)
    for step in range(LAST + 1):
        yield step
        drawn = parallel.batches(KEY, step, size=len(ids), rate=rate)
        grads, state, _ = parallel.update(params, [(ids[i], labels[i]) for i in drawn], state)
        for name, param in params.items():
            param.sub_(0.1 * grads[name])
        del grads


def resident(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s*(\d+)", status)[1]) / 1024


WAYS = ["functions, whole", "functions, rows", "engine, whole", "engine, fully_shard"]


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes_memory")
    parser.add_argument("--world", type=int, default=4)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--samples", type=int, default=4, help="a process and step, expected")
    parser.add_argument("--ways", nargs="*", default=WAYS)
    own = parser.parse_args()
    count = sum(p.numel() for p in Transformer(own.width, own.layers).parameters())
    print(f"{count:,} parameters, {count / 2**18:.0f} MiB; {own.world} processes; MiB")
    for way in own.ways:
        results = run(peak, own.world, way, own.width, own.layers, own.samples, patience=600)
        if isinstance(results[0], str):
            raise SystemExit(f"{way}: {results[0]}")
        above, before = results[0]
        print(f"  {way:22} before {before:7.0f}  peak of a step +{above:6.0f}", flush=True)


if __name__ == "__main__":
    main()
