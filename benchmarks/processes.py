"""What a private step costs on several processes, beside plain DistributedDataParallel.

    python -m benchmarks.processes [--world 2] [--rounds 5] [--width 1024]

Each way runs in turn, round after round, and the median of the rounds is printed: of a step, and of
the noise in it. Ratios within one run are what counts.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

import dpfunc as dp
from dpfunc.distributed import DataParallel, shard
from dpfunc.types import Summed
from tests.distributed.processes import run

SIZE, RATE, SHARDS = 4096, 1 / 32, 4
KEY = dp.key(1)


def network(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def ways(width):
    """``{name: step}``, each a function of the number of the step."""
    model, world, rank = network(width), dist.get_world_size(), dist.get_rank()
    x, y = dp.normal(dp.key(2), (SIZE, 64)), torch.arange(SIZE) % 10
    plain = DistributedDataParallel(network(width)) if world > 1 else network(width)
    each = int(SIZE * RATE) // world

    def losses(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y, reduction="none")

    private = dp.PrivateGrad(
        dp.batched(losses),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(1.0, key=KEY),
        expected_batch_size=SIZE * RATE,
    )
    parallel = DataParallel(private, shards=SHARDS)
    whole = {name: p.clone() for name, p in dp.named_params(model).items()}
    rows = shard(whole, dist.init_device_mesh("cpu", (world,)))
    state = parallel.init(whole)

    def by_ddp(step):
        plain.zero_grad()
        at = slice(step * world * each + rank * each, step * world * each + rank * each + each)
        F.cross_entropy(plain(x[at]), y[at]).backward()

    def by_us(params):
        def take(step):
            drawn = parallel.batches(KEY, step, size=SIZE, rate=RATE)
            parallel.update(params, [(x[i], y[i]) for i in drawn], state_at(step))

        return take

    def state_at(step):
        noise = {**state["noise"], "step": step}
        return {**state, "noise": noise, "step": step}

    sums = {name: p.double() / 2 for name, p in whole.items()}
    count = sum(p.numel() for p in whole.values())
    own = torch.cat([p.flatten() for p in sums.values()])[: count // world].clone()
    noise = private.noise

    def noise_of_all(step):
        noise.add(Summed(sums, 1.0), state_at(step)["noise"])

    def noise_of_rows(step):
        noise.add_range(own, state_at(step)["noise"], bound=1.0, start=0)

    return {
        "plain": by_ddp,
        "DataParallel": by_us(whole),
        "DataParallel, sharded": by_us(rows),
        "noise of all": noise_of_all,
        "noise of the own rows": noise_of_rows,
    }


def measured(rounds, width):
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for step in range(-1, rounds):
        for name, take in ways_of(width).items():
            dist.barrier()
            start = time.perf_counter()
            take(step + 1)
            if step >= 0:
                found.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in found.items()}


_MADE: dict[int, dict] = {}


def ways_of(width):
    if width not in _MADE:
        _MADE[width] = ways(width)
    return _MADE[width]


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024)
    options = parser.parse_args()
    parameters = sum(p.numel() for p in network(options.width).parameters())
    print(f"{parameters:,} parameters, {SIZE * RATE:.0f} samples a step, {SHARDS} shards; ms")
    one = run(measured, 1, options.rounds, options.width, patience=600)[0]
    many = run(measured, options.world, options.rounds, options.width, patience=600)[0]
    if not (isinstance(one, dict) and isinstance(many, dict)):
        raise SystemExit(f"{one}\n{many}")
    for name in one:
        ratio = many[name] / one[name]
        print(f"  {name:24} W=1 {one[name]:8.1f}  W={options.world} {many[name]:8.1f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
