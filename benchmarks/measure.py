"""Timing the steps of several contenders in turn, and the peak memory of one in a process."""

import multiprocessing
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.contenders.contract import Builder, Step
from benchmarks.contenders.jax_steps import Worker
from benchmarks.process_memory import peak, reset_peak, resident
from benchmarks.workloads.workload import Workload

WARM_UP, TIMES_SLOWER = 2, 5.0


def built(work: Workload, names: list[str]) -> tuple[dict[str, Step], dict[str, str]]:
    """The steps of those that can take one, and what the others say."""
    steps, failures = {}, {}
    for name in names:
        try:
            step = CONTENDERS[name](work)
            step.take()
            steps[name] = step
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            failures[name] = f"{type(error).__name__}: {said[0][:70]}"
    return steps, failures


def timings(
    steps: dict[str, Step],
    rounds: int,
    most_seconds: float,
    base: str = PLAIN,
    finish: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, ``finish`` (a wait for the device) included.

    One that is much slower than ``base`` sits out the rounds after it has had its time.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(WARM_UP + rounds):
        for name, step in steps.items():
            own = taken[name]
            slow = sum(own) > TIMES_SLOWER * sum(taken[base][: len(own)])
            if slow and sum(own) > most_seconds:
                continue
            finish()
            start = time.perf_counter()
            step.take()
            finish()
            own.append(time.perf_counter() - start)
    # A step of many seconds may have taken its time in the warm-up.
    return {name: own[WARM_UP:] or own[-1:] for name, own in taken.items()}


def peak_memory(make: Callable[[], Workload], builder: Builder, threads: int) -> float:
    """MiB that two steps take at most, in a process that has done nothing else.

    What the libraries load at their first step is not counted: a step on one sample precedes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:  # a Pool waits for a dead process
        return pool.submit(_peak_memory, make, builder, threads).result()


def _peak_memory(make: Callable[[], Workload], builder: Builder, threads: int) -> float:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    work = make()
    step = builder(work._replace(inputs=work.inputs[:1], labels=work.labels[:1]))
    step.take()
    del step
    before = resident()
    reset_peak()
    step = builder(work)
    for _ in range(2):
        step.take()
    return step.take.peak if isinstance(step.take, Worker) else peak() - before
