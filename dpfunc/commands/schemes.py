"""``--sampler`` and ``--strategy`` of the accountant's commands: who takes part, and how noise is
correlated.

Only a run that names one of them waits for torch, which the samplers draw with.
"""

import argparse
from importlib import import_module
from typing import Any

from dpfunc import correlated
from dpfunc.accounting import Event
from dpfunc.checks import require
from dpfunc.commands import options as shared
from dpfunc.strategies.records import Strategy

_SAMPLERS = ("poisson", "fixed-size", "cyclic", "balls-in-bins", "allocation", "shuffled")
_COUNTED = {"banded": "bands", "fractional": "bands", "buffered": "buffers"}
_PLAIN = ("identity", "square-root")


def add_scheme(parser: argparse.ArgumentParser) -> None:
    """``--sampler`` and ``--strategy``."""
    parser.add_argument(
        "--sampler",
        metavar="NAME",
        help=f"who takes part in a step: {', '.join(_SAMPLERS)} (default poisson); cyclic:P has "
        "turns of P steps, else as many as the strategy has bands. With --batch-size and "
        "--dataset-size",
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        help="correlated noise: banded:BANDS, fractional:BANDS, buffered:BUFFERS, square-root; for "
        "all steps of the run",
    )


def is_named(options: argparse.Namespace) -> bool:
    """Whether one of the two options is there."""
    return options.sampler is not None or options.strategy is not None


class Run:
    """Sampler, strategy and number of steps that the options say. ValueError for what none is."""

    def __init__(self, options: argparse.Namespace) -> None:
        require(
            options.batch_size is not None and options.dataset_size is not None,
            "--sampler",
            "--batch-size and --dataset-size beside it",
            {"batch_size": options.batch_size, "dataset_size": options.dataset_size},
            "samplers are of so many records",
        )
        rate = shared.sample_rate(options)
        self.steps = shared.steps(options, rate)
        require(self.steps >= 1, "--steps", "at least 1", self.steps, "say how long the run is")
        kind, count = _parted("--strategy", options.strategy or "identity")
        name, cycle = _parted("--sampler", options.sampler or "poisson")
        bands = count if kind == "banded" else None
        require(
            cycle is None or name == "cyclic",
            "--sampler",
            "a number with cyclic alone",
            options.sampler,
            "the others take theirs from --batch-size and --dataset-size",
        )
        self.sampler = _sampler(name, cycle or bands, options)
        promised = self.sampler.participation(self.steps)
        self.strategy = _strategy(kind, count, self.steps, promised)

    def event(self, noise_multiplier: float) -> Event:
        """What the whole run releases."""
        found: Event = self.sampler.event(
            noise_multiplier, steps=self.steps, strategy=self.strategy
        )
        return found

    def __str__(self) -> str:
        noise = "independent noise" if self.strategy is None else type(self.strategy).__name__
        return f"{self.steps} steps of {self.sampler}, {noise}"


def _parted(option: str, words: str) -> tuple[str, int | None]:
    """``name:number``, or a name alone."""
    name, colon, number = words.partition(":")
    require(
        not colon or (number.isdigit() and int(number) >= 1),
        option,
        "a name, or a name and a number such as banded:16",
        words,
        "write the number after a colon",
    )
    return name, int(number) if colon else None


def _sampler(name: str, cycle: int | None, options: argparse.Namespace) -> Any:
    require(name in _SAMPLERS, "--sampler", f"one of {', '.join(_SAMPLERS)}", name, "use those")
    sampling = import_module("dpfunc.sampling")  # brings torch
    size, batch = int(options.dataset_size), float(options.batch_size)
    steps_of_epoch = max(1, round(size / batch)) if batch > 0 else 1
    if name == "cyclic":
        require(
            cycle is not None and cycle * batch <= size,
            "--sampler",
            f"cyclic:P with P from 1 to {int(size / batch) if batch > 0 else 1}, the batches in "
            "the data",
            cycle,
            "a record takes part at most once in P steps",
        )
        turns = cycle or 1
        return sampling.CyclicPoisson(size=size, rate=batch * turns / size, cycle=turns)
    if name == "poisson":
        return sampling.Poisson(size=size, rate=batch / size)
    if name == "balls-in-bins":
        return sampling.BallsInBins(size=size, bins=steps_of_epoch)
    if name == "allocation":
        return sampling.Allocation(size=size, steps=steps_of_epoch)
    kind = sampling.FixedSize if name == "fixed-size" else sampling.Shuffled
    require(
        batch == int(batch),
        "--batch-size",
        f"a whole number with {name}",
        batch,
        "all batches are of that size",
    )
    return kind(size=size, batch_size=int(batch))


def _strategy(kind: str, count: int | None, steps: int, promised: Any) -> Strategy | None:
    known = kind in _PLAIN if count is None else kind in _COUNTED
    require(
        known,
        "--strategy",
        "banded:BANDS, fractional:BANDS, buffered:BUFFERS or square-root",
        kind if count is None else f"{kind}:{count}",
        "say how many bands or buffers",
    )
    if kind == "identity":
        return None
    if kind == "square-root":
        return correlated.square_root(steps=steps)
    if kind == "banded":
        return correlated.banded(steps=steps, bands=count or 1)
    participation = promised or correlated.Participation(steps, 1)
    if kind == "fractional":
        return correlated.fractional(steps=steps, bands=count or 1, participation=participation)
    return correlated.buffered(steps=steps, buffers=count or 1, participation=participation)
