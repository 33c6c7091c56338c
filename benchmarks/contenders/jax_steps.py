"""JAX-Privacy, and plain JAX beside it, each in a process of its own environment.

The environment's Python is the one that the variable ``JAX_PYTHON`` names::

    python -m venv ENV && ENV/bin/pip install jax-privacy==2.0.0
"""

import os
import subprocess
import weakref
from pathlib import Path

import torch

from benchmarks.contenders.contract import Step
from benchmarks.workloads.workload import Workload

# The workloads that are written in JAX, with the faster microbatch size of 0 (none) and 16.
MICROBATCH_SIZE = {
    "mlp": 16,
    "mnist_cnn": 0,
    "cifar_cnn": 0,
    "embedding": 16,
    "lstm": 0,
    "wrn_16_4": 0,
    "resnet18": 0,
}


class Worker:
    """Takes steps in another process. ``peak``: that process's peak memory in MiB."""

    def __init__(self, workload: str, size: int, kind: str) -> None:
        self.peak = 0.0
        self._process = subprocess.Popen(
            [_python(), "-W", "ignore", "-m", "benchmarks.jax_step.worker"]
            + [workload, str(size), str(torch.get_num_threads()), kind]
            + [str(MICROBATCH_SIZE[workload])],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        weakref.finalize(self, _end, self._process)
        self.parameters = int(self._answer("ready"))

    def __call__(self) -> None:
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        self.peak = float(self._answer("done"))

    def _answer(self, word: str) -> str:
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != word:
            raise RuntimeError(f"the worker in JAX ended with status {self._process.wait()}")
        return line[1]


def _end(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait()
    process.stdout.close()


def _python() -> str:
    if "JAX_PYTHON" not in os.environ:
        raise RuntimeError("JAX_PYTHON is not set")
    return os.environ["JAX_PYTHON"]


def _step(work: Workload, kind: str) -> Step:
    if work.name not in MICROBATCH_SIZE:
        raise NotImplementedError("not written in JAX")
    worker = Worker(work.name, len(work.labels), kind)
    own = sum(param.numel() for param in work.model.parameters())
    if worker.parameters != own:
        raise RuntimeError(f"the model in JAX has {worker.parameters} parameters instead of {own}")
    return Step(worker, None)


def plain(work: Workload) -> Step:
    return _step(work, "plain")


def private(work: Workload) -> Step:
    return _step(work, "private")
