"""Correlated noise: what it costs, and what it gains on Fashion-MNIST at equal privacy.

Time and memory of a release with each strategy, beside independent noise::

    python -m benchmarks.correlated --time 2000000

Test accuracy of DP-SGD and of bands with cyclic Poisson samples, 5 seeds. The rate is chosen on
5,000 images that are held out of training, with two other seeds::

    python -m benchmarks.correlated --data /usr/share/datasets/fashion-mnist --epsilon 4

Errors, sensitivities, optima and privacy beside those of JAX-Privacy, which has an environment of
its own, named by ``JAX_PYTHON`` (`jax_matrices.table`)::

    JAX_PYTHON=ENV/bin/python python -m benchmarks.correlated --rival
"""

import argparse
import time
from pathlib import Path
from statistics import mean, median, stdev

import torch
from torch import Tensor

import dpfunc as dp
from benchmarks.jax_matrices.table import compared as compared_with_jax
from dpfunc import correlated, sampling
from dpfunc.commands.demo.data import load_folder
from dpfunc.types import Summed

EPOCHS, BATCH, MOMENTUM, DELTA, BANDS = 4, 600, 0.9, 1e-5, 10
RATES, HELD_OUT = (0.1, 0.3, 1.0), 5000


def strategies(steps: int) -> dict[str, object]:
    """Those that are timed."""
    part = correlated.Participation(4, steps // 4)
    return {
        "one band": correlated.identity(steps=steps),
        "4 bands": correlated.banded(steps=steps, bands=4),
        "16 bands": correlated.banded(steps=steps, bands=16),
        "lambda": correlated.fractional(steps=steps, bands=2, participation=part),
        "fractional(4)": correlated.fractional(steps=steps, bands=4, participation=part),
        "buffered(2)": correlated.Buffered(steps, (0.99, 0.75), (0.16, 0.32)),
    }


def timed(items: int, rounds: int) -> None:
    """Print the median time of a release in a running run, and the bytes of its state."""
    values, steps = {"w": torch.zeros(items)}, 400
    mechanisms = {"independent": dp.GaussianNoise(1.0, key=dp.key(0))}
    for name, strategy in strategies(steps).items():
        mechanisms[name] = dp.CorrelatedNoise(1.0, strategy, key=dp.key(0))
    states, taken = {}, {name: [] for name in mechanisms}
    for name, noise in mechanisms.items():
        states[name] = noise.init(values)
        for _ in range(20):
            _, states[name] = noise.add(Summed(values, 1.0), states[name])
    for _ in range(rounds):
        for name, noise in mechanisms.items():
            start = time.perf_counter()
            _, states[name] = noise.add(Summed(values, 1.0), states[name])
            taken[name].append(time.perf_counter() - start)
    base = median(taken["independent"])
    print(f"{items:,} numbers, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| noise | ms | times independent | bytes a number in the state |")
    print("|---|---|---|---|")
    for name, own in taken.items():
        kept = states[name].get("memory", [])
        size = sum(w.numel() * w.itemsize for e in kept for w in e["words"].values()) / items
        print(f"| {name} | {median(own) * 1e3:.1f} | {median(own) / base:.2f} | {size:.0f} |")


def loss_fn(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    hidden = torch.tanh(params["w1"] @ x + params["b1"])
    return torch.nn.functional.cross_entropy(params["w2"] @ hidden + params["b2"], y)


def start(key: dp.Key) -> dict[str, Tensor]:
    shapes = {"w1": (32, 784), "b1": (32,), "w2": (10, 32), "b2": (10,)}
    scale = {"w1": 784**-0.5, "w2": 32**-0.5}
    return {
        name: dp.normal(dp.fold_in(key, "start", name), shape) * scale.get(name, 0.0)
        for name, shape in shapes.items()
    }


def setting(bands: int, epsilon: float, size: int) -> tuple[object, sampling.CyclicPoisson, float]:
    """Strategy, sampler and noise multiplier of one contender: equal batches, equal privacy."""
    steps = EPOCHS * size // BATCH
    workload = correlated.momentum(steps, beta=MOMENTUM)
    strategy = correlated.banded(steps=steps, bands=bands, workload=workload)
    sampler = sampling.CyclicPoisson(size=size, rate=bands * BATCH / size, cycle=bands)
    s = correlated.noise_multiplier(
        target_epsilon=epsilon, delta=DELTA, sampler=sampler, strategy=strategy
    )
    return strategy, sampler, s


def trained(contender: tuple, data: tuple, test: tuple, rate: float, seed: int) -> float:
    """Test accuracy after one run."""
    (strategy, sampler, s), key = contender, dp.fold_in(dp.key(seed), "run")
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(1.0),
        noise=dp.CorrelatedNoise(s, strategy, key=key),
        expected_batch_size=sampler.expected_batch_size,
        sampler=sampler,
    )
    params = start(key)
    state, velocity = private.init(params), {n: torch.zeros_like(p) for n, p in params.items()}
    for step in range(strategy.steps):
        indices, mask = sampler.batch(key, step)
        batch = (data[0][indices], data[1][indices])
        grads, state, _ = private.update(params, batch, state, mask)
        for name, grad in grads.items():
            velocity[name] = MOMENTUM * velocity[name] + grad
            params[name] = params[name] - rate * velocity[name]
    return accuracy(params, test)


def accuracy(params: dict[str, Tensor], test: tuple) -> float:
    """In percent."""
    hidden = torch.tanh(test[0] @ params["w1"].T + params["b1"])
    found = (hidden @ params["w2"].T + params["b2"]).argmax(1)
    return 100 * float((found == test[1]).double().mean())


def compared(folder: Path, epsilon: float, seeds: int) -> None:
    """Print the accuracies of both, and the gain with its standard error."""
    data = load_folder(folder)
    train_x = data.train_x.flatten(1)
    inner = (train_x[HELD_OUT:], data.train_y[HELD_OUT:])
    held = (train_x[:HELD_OUT], data.train_y[:HELD_OUT])
    whole, test = (train_x, data.train_y), (data.test_x.flatten(1), data.test_y)
    found = {}
    for bands in (1, BANDS):
        choosing = setting(bands, epsilon, len(inner[1]))
        tried = {r: mean(trained(choosing, inner, held, r, s) for s in (100, 101)) for r in RATES}
        rate = max(tried, key=tried.get)
        contender = setting(bands, epsilon, len(whole[1]))
        found[bands] = [trained(contender, whole, test, rate, seed) for seed in range(seeds)]
        print(
            f"epsilon {epsilon:g}, {bands} bands: noise multiplier {contender[2]:.4f}, rate {rate} "
            f"of {tried}, accuracy {mean(found[bands]):.2f} of {found[bands]}",
            flush=True,
        )
    gains = [b - a for a, b in zip(found[1], found[BANDS], strict=True)]
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    print(f"epsilon {epsilon:g}: gain {mean(gains):.2f} points, standard error {error:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", type=int, help="numbers in a release")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--data", type=Path, help="folder of the four IDX files")
    parser.add_argument("--epsilon", type=float, nargs="*", default=[1.0, 4.0, 8.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rival", action="store_true", help="beside JAX-Privacy")
    options = parser.parse_args()
    if options.rival:
        compared_with_jax()
    if options.time:
        timed(options.time, options.rounds)
    if options.data:
        for epsilon in options.epsilon:
            compared(options.data, epsilon, options.seeds)


if __name__ == "__main__":
    main()
