"""Whole runs, first batch to last: dpfunc's engine, Opacus by hooks and by ghost clipping, plain.

    python -m benchmarks.whole_runs
    python -m benchmarks.whole_runs --steps 30 --rounds 5

A run makes what is private, draws its batches and takes so many steps, as a user's program does: a
CNN on images of MNIST's shape, Poisson batches of 256 on average. The loops take turns; figures are
seconds by the clock, medians of the rounds. Opacus draws floating-point noise that is not
cryptographic here; dpfunc's noise is exact.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dpfunc as dp
from benchmarks.looks import batches_of
from benchmarks.workloads.images import mnist_cnn

RECORDS, BATCH = 4096, 256
RATE, NOISE, NORM = 0.01, 1.0, 1.0

Loop = Callable[[nn.Module, TensorDataset, int], None]


def _loop(model: Any, optimizer: Any, loader: Any, steps: int, criterion: Any) -> None:
    for x, y in batches_of(loader, steps):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


def plain(model: nn.Module, data: TensorDataset, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    _loop(model, optimizer, DataLoader(data, BATCH, shuffle=True), steps, F.cross_entropy)


def engine(model: nn.Module, data: TensorDataset, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    private = dp.PrivacyEngine(
        model, sample_size=len(data), batch_size=BATCH, steps=steps, delta=1e-5,
        max_grad_norm=NORM, noise_multiplier=NOISE, key=dp.key(1),
    )  # fmt: skip
    private.attach(optimizer)
    _loop(model, optimizer, private.loader(data), steps, F.cross_entropy)
    private.detach()


def opacus(model: nn.Module, data: TensorDataset, steps: int, mode: str) -> None:
    from opacus import PrivacyEngine

    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    made = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=DataLoader(data, BATCH),
        noise_multiplier=NOISE, max_grad_norm=NORM, grad_sample_mode=mode,
        **({"criterion": nn.CrossEntropyLoss()} if mode == "ghost" else {}),
    )  # fmt: skip
    criterion = made[2] if mode == "ghost" else F.cross_entropy
    _loop(made[0], made[1], made[-1], steps, criterion)


LOOPS: dict[str, Loop] = {
    "plain PyTorch": plain,
    "dpfunc engine": engine,
    "Opacus, hooks": lambda *given: opacus(*given, "hooks"),
    "Opacus, ghost": lambda *given: opacus(*given, "ghost"),
}


def measure(steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each loop in each round."""
    work = mnist_cnn(RECORDS)
    data = TensorDataset(work.inputs, work.labels)
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    for round_ in range(-1, rounds):  # the first one warms up
        for name, loop in LOOPS.items():
            torch.manual_seed(0)
            model = copy.deepcopy(work.model)
            begin = time.perf_counter()
            loop(model, data, steps)
            if round_ >= 0:
                found[name].append(time.perf_counter() - begin)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[30, 64])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| steps | loop | s | to plain |\n|---|---|---|---|")
    for steps in options.steps:
        found = measure(steps, options.rounds)
        for name, seconds in found.items():
            ratio = median(seconds) / median(found["plain PyTorch"])
            print(f"| {steps} | {name} | {median(seconds):.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
