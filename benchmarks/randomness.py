"""Bits and normals a second, beside torch and NumPy; and law L2 over 10**8 normals.

    python -m benchmarks.randomness                        speed, on one thread and on two
    python -m benchmarks.randomness --compiled             the torch cipher compiled, too
    python -m benchmarks.randomness --step                 what the noise is of a whole step
    python -m benchmarks.randomness --law 100_000_000      the law instead

The contenders take turns; figures are medians over the rounds.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import dpfunc as dp
from benchmarks.release_law import KERNELS, law_of_releases
from benchmarks.workloads import WORKLOADS, Workload
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import streams
from dpfunc.random.chacha import torch_keystream
from dpfunc.random.keys import bits
from dpfunc.types import State, Summed, Tensors

CPU = torch.device("cpu")
KEY = dp.key(1)
SECRET = KEY.secret_bytes


def opacus_secure(count: int) -> Tensor:
    """What Opacus adds in secure mode: half the sum of four normals (its generator is gone)."""
    torch.normal(0, 1, (1,))
    return sum(torch.normal(0, 1, (count,)) for _ in range(4)) / 2


def bit_makers(count: int, compiled: bool) -> dict[str, Callable[[], object]]:
    philox, pcg = (np.random.Generator(b(1)) for b in (np.random.Philox, np.random.PCG64))
    makers: dict[str, Callable[[], object]] = {
        "dpfunc.bits (ChaCha20 by OpenSSL)": lambda: bits(KEY, count),
        "ChaCha20 in torch, eager": lambda: torch_keystream(SECRET, 8 * count, device=CPU),
        "NumPy Philox": lambda: philox.bit_generator.random_raw(count),
        "NumPy PCG64": lambda: pcg.bit_generator.random_raw(count),
        "torch.randint (MT19937)": lambda: torch.randint(-(2**63), 2**63 - 1, (count,)),
    }
    if compiled:
        fast = torch.compile(torch_keystream)
        makers["ChaCha20 in torch, compiled"] = lambda: fast(SECRET, 8 * count, device=CPU)
    return makers


def normal_makers(count: int) -> dict[str, Callable[[], object]]:
    philox, pcg = (np.random.Generator(b(1)) for b in (np.random.Philox, np.random.PCG64))
    values, row, scale = torch.ones(count), torch.ones(count), 2.0**21
    releases: dict[str, Callable[[], object]] = {
        f"a sum on the lattice, {name}": partial(
            kernel, [Piece(row, 0)], streams(KEY), 100.0, 2.0**-6
        )
        for name, kernel in KERNELS.items()
    }
    return {
        "torch.randn": lambda: torch.randn(count),
        "dpfunc.normal": lambda: dp.normal(KEY, (count,)),
        "NumPy Philox": lambda: philox.standard_normal(count, dtype=np.float32),
        "NumPy PCG64": lambda: pcg.standard_normal(count, dtype=np.float32),
        "Opacus secure mode": lambda: opacus_secure(count),
        "torch.randn, float64": lambda: torch.randn(count, dtype=torch.float64),
        "dpfunc.normal, float64": lambda: dp.normal(KEY, (count,), dtype=torch.float64),
        "dpfunc.rounded_normal (exact)": lambda: dp.rounded_normal(KEY, (count,), scale=scale),
        "dpfunc.discrete_gaussian (exact)": lambda: dp.discrete_gaussian(
            KEY, (count,), sigma=scale
        ),
        "a sum + torch.randn (leaks)": lambda: torch.add(values, torch.randn(count)),
        "a sum + dpfunc.normal (leaks)": lambda: torch.add(values, dp.normal(KEY, (count,))),
        **releases,
    }


def medians(
    makers: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(rounds + 1):  # one to warm up
        for name, make in makers.items():
            start = clock()
            make()
            if turn >= 1:
                seconds[name].append(clock() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def speed(options: argparse.Namespace) -> None:
    columns = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        torch.compiler.reset()
        of_bits = medians(
            bit_makers(options.count, options.compiled), options.rounds, options.clock
        )
        of_normals = medians(normal_makers(options.count), options.rounds, options.clock)
        columns.append((of_bits, of_normals))
    names = [f"{t} thread{'s' * (t > 1)}" for t in options.threads]
    print(f"\n| 64-bit words | {' | '.join(f'{n}, Gbit/s' for n in names)} |")
    print("|---|" + "---|" * len(names))
    for name in columns[0][0]:
        rates = [f"{64 * options.count / of_bits[name] / 1e9:.1f}" for of_bits, _ in columns]
        print(f"| {name} | {' | '.join(rates)} |")
    print(f"\n| normals | {' | '.join(f'{n}, M/s | time of torch.randn' for n in names)} |")
    print("|---|" + "---|---|" * len(names))
    for name in columns[0][1]:
        cells = [
            f"{options.count / own[name] / 1e6:.0f} | {own[name] / own['torch.randn']:.2f}"
            for _, own in columns
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


class FloatNoise:
    """What `GaussianNoise` would be without its lattice: for comparison, not for use."""

    def init(self, _: Tensors) -> State:
        return {"step": 0}

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        released = {}
        for name, value in summed.values.items():
            key = dp.fold_in(KEY, state["step"], name)
            released[name] = dp.normal(key, value.shape).mul_(summed.bound).add_(value)
        return released, {"step": state["step"] + 1}

    def event(self, state: State, *, sample_rate: float) -> None:
        raise NotImplementedError("noisy floats protect nothing")


def noise_in_a_step(rounds: int, threads: int, clock: Callable[[], float]) -> None:
    """Milliseconds of the private gradient of each workload, by its noise."""
    torch.set_num_threads(threads)
    noises = {
        "none": dp.GaussianNoise(0.0, key=KEY),
        "float32": FloatNoise(),
        "lattice": dp.GaussianNoise(1.0, key=KEY),
    }
    print(f"\n| ms of a step, {threads} threads | {' | '.join(noises)} | lattice / float32 |")
    print("|---|" + "---|" * 4)
    for workload in ("transformer", "resnet18", "mlp", "mnist_cnn"):
        work = WORKLOADS[workload]()
        params = dp.named_params(work.model)

        def loss_fn(params: Tensors, x: Tensor, y: Tensor, work: Workload = work) -> Tensor:
            logits = torch.func.functional_call(work.model, params, (x[None],))
            return work.losses(logits, y[None])[0]

        makers: dict[str, Callable[[], object]] = {}
        for name, noise in noises.items():
            private = dp.PrivateGrad(loss_fn, clip=dp.Clip(1.0), noise=noise, expected_batch_size=1)
            state = private.init(params)
            makers[name] = partial(private.update, params, (work.inputs, work.labels), state)
        own = medians(makers, rounds, clock)
        cells = [f"{own[name] * 1e3:.1f}" for name in noises]
        ratio = own["lattice"] / own["float32"]
        print(f"| {workload} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


def moments_and_tails(name: str, draw: Callable[[dp.Key, int], np.ndarray], total: int) -> None:
    """Each figure beside its expectation, with how many standard deviations it is off."""
    chunk, z = 2**22, np.empty(total, dtype=np.float32)
    sums, beyond = np.zeros(7), dict.fromkeys((3.0, 4.0, 5.0, 5.5, 6.0), 0)
    for start in range(0, total, chunk):
        part = draw(dp.fold_in(KEY, name, start), min(chunk, total - start))
        z[start : start + part.size] = part
        powers = np.ones_like(part)
        for power in range(1, 7):
            powers *= part
            sums[power] += powers.sum()
        for edge in beyond:
            beyond[edge] += int((abs(part) > edge).sum())
    print(f"\n{name}, {total:,} draws")
    even = {0: 1, 2: 1, 4: 3, 6: 15, 8: 105, 10: 945, 12: 10395}
    for power in range(1, 7):
        expected = even.get(power, 0)
        deviation = ((even[2 * power] - expected**2) / total) ** 0.5
        off = (sums[power] / total - expected) / deviation
        print(f"  moment {power}: {sums[power] / total:+.6f}, expected {expected}, {off:+.2f} sd")
    for edge, count in beyond.items():
        p = stats.binomtest(count, total, 2 * stats.norm.sf(edge)).pvalue
        expected = total * 2 * stats.norm.sf(edge)
        print(f"  beyond {edge}: {count:,}, expected {expected:,.1f}, p = {p:.3f}")
    z.sort()
    distance = 0.0
    for start in range(0, total, chunk):
        cdf = stats.norm.cdf(z[start : start + chunk].astype(np.float64))
        rank = np.arange(start, start + cdf.size)
        distance = max(distance, (cdf - rank / total).max(), ((rank + 1) / total - cdf).max())
    p = stats.kstwobign.sf(distance * total**0.5)
    print(f"  Kolmogorov-Smirnov: distance {distance:.2e}, p = {p:.3f}", flush=True)


def siblings(total: int) -> None:
    """Bytes of one key's stream beside those of its sibling: 2**16 cells, equally likely."""
    counts, chunk = np.zeros(2**16, dtype=np.int64), 2**22
    for start in range(0, total, chunk):
        size = min(chunk, total - start) // 8
        left, right = (
            bits(dp.fold_in(KEY, "sibling", start + side), size).view(torch.uint8).numpy()
            for side in (0, 1)
        )
        counts += np.bincount(left.astype(np.int64) << 8 | right, minlength=2**16)
    result = stats.chisquare(counts)
    print(f"\nfold_in siblings, {counts.sum():,} pairs of bytes in 2**16 cells")
    print(f"  chi-square {result.statistic:.0f} for 65535, p = {result.pvalue:.3f}")


def law(total: int) -> None:
    scale = 2.0**21
    moments_and_tails(
        "dpfunc.normal, float32", lambda k, n: dp.normal(k, (n,)).double().numpy(), total
    )
    moments_and_tails(
        "dpfunc.normal, float64",
        lambda k, n: dp.normal(k, (n,), dtype=torch.float64).numpy(),
        total,
    )
    moments_and_tails(
        "dpfunc.rounded_normal / 2**21",
        lambda k, n: dp.rounded_normal(k, (n,), scale=scale).numpy() / scale,
        total,
    )
    law_of_releases(KEY, total)
    siblings(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2**21)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--compiled", action="store_true", help="torch.compile the torch cipher")
    parser.add_argument("--law", type=int, metavar="DRAWS", help="law L2 over this many draws")
    parser.add_argument("--step", action="store_true", help="the noise of whole steps instead")
    parser.add_argument(
        "--cpu-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="count the time of the processor, on a machine that others use; for one thread",
    )
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {options.count:,} at a time, medians of {options.rounds}, "
        f"{options.clock.__name__}"
    )
    if options.law:
        law(options.law)
    elif options.step:
        noise_in_a_step(options.rounds, options.threads[-1], options.clock)
    else:
        speed(options)


if __name__ == "__main__":
    main()
