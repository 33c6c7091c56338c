"""What the accountant's commands have in common: options, what they mean, how errors look."""

import argparse
import decimal
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, get_args

from dpfunc import accounting
from dpfunc.accounting import Event
from dpfunc.accounting.domination.release import Relation
from dpfunc.checks import require

_PICTURES = (".png", ".pdf", ".svg")


def add_noise(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--noise-multiplier``."""
    parser.add_argument(
        "--noise-multiplier",
        type=float,
        required=required,
        metavar="SIGMA",
        help="standard deviation of the noise over the clipping norm",
    )


class Target(TypedDict):
    """The arguments by which the accountant's calibrations take a target."""

    target_epsilon: float | None
    delta: float | None
    target_advantage: float | None
    target_tradeoff: tuple[float, float] | None


def add_budget(parser: argparse.ArgumentParser) -> None:
    """``--epsilon`` and ``--delta``."""
    parser.add_argument(
        "--epsilon", type=float, required=True, help="the budget that must not be exceeded"
    )
    add_delta(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """``--epsilon`` with ``--delta``, ``--advantage`` or ``--tradeoff``."""
    parser.add_argument("--epsilon", type=float, help="the budget that must not be exceeded ...")
    add_delta(parser, required=False)
    parser.add_argument(
        "--advantage",
        type=float,
        metavar="A",
        help="or: the most by which an attack's true positives may exceed its false ones",
    )
    parser.add_argument(
        "--tradeoff",
        type=float,
        nargs=2,
        metavar=("ALPHA", "BETA"),
        help="or: attacks with a false positive rate ALPHA shall miss at least a share BETA",
    )


def add_delta(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--delta``."""
    parser.add_argument(
        "--delta",
        type=float,
        required=required,
        help="the probability in which the guarantee may fail; well below 1 / number of records",
    )


def add_relation(parser: argparse.ArgumentParser) -> None:
    """``--relation``."""
    parser.add_argument(
        "--relation",
        choices=get_args(Relation),
        default="add_or_remove",
        help="which data sets are neighbours (default %(default)s)",
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """``--sample-rate``, or the batch size and the size of the data set."""
    parser.add_argument(
        "--sample-rate",
        type=float,
        metavar="Q",
        help="probability with which each record is in a step's batch, independently (Poisson)",
    )
    parser.add_argument(
        "--batch-size", type=float, metavar="B", help="expected batch size, instead of a rate ..."
    )
    parser.add_argument(
        "--dataset-size", type=int, metavar="N", help="... of a data set of that many records"
    )


def add_length(parser: argparse.ArgumentParser) -> None:
    """``--steps`` or ``--epochs``."""
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, metavar="T", help="number of updates of the model")
    length.add_argument(
        "--epochs", type=float, metavar="E", help="expected passes over the data, instead of steps"
    )


def add_after(parser: argparse.ArgumentParser) -> None:
    """``--after``."""
    parser.add_argument(
        "--after",
        type=Path,
        metavar="FILE",
        help="what was released before from the same data, as written by "
        "dpfunc.accounting.to_json: the target then holds for both together",
    )


def add_output(parser: argparse.ArgumentParser, *, shows: str) -> None:
    """``--json`` and ``--plot``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help=f"also draw {shows} (.png, .pdf or .svg)"
    )


def sample_rate(options: argparse.Namespace) -> float:
    """The rate that the options say, in one way or the other."""
    batch, size = options.batch_size, options.dataset_size
    either = (options.sample_rate is None) != (batch is None and size is None)
    require(
        either and (batch is None) == (size is None),
        "sampling",
        "either --sample-rate, or both --batch-size and --dataset-size",
        {"sample_rate": options.sample_rate, "batch_size": batch, "dataset_size": size},
        "say it in one of the two ways",
    )
    if options.sample_rate is not None:
        rate: float = options.sample_rate
        return rate
    require(size >= 1, "--dataset-size", "at least 1", size, "count the records")
    require(0 <= batch <= size, "--batch-size", "between 0 and --dataset-size", batch, "lower it")
    return float(batch) / int(size)


def steps(options: argparse.Namespace, rate: float) -> int:
    """The number of steps; of epochs, rounded up."""
    if options.steps is not None:
        count: int = options.steps
        return count
    require(
        0 <= options.epochs < math.inf, "--epochs", "a finite number >= 0", options.epochs, "try 10"
    )
    require(rate > 0, "--epochs", "a sample rate above 0", rate, "pass --steps instead")
    return math.ceil(
        float(options.epochs) / rate * (1 - 1e-12)
    )  # 10 / 0.1 is 100, whatever its last bit


def event_in(path: Path, option: str) -> Event:
    """The event that a file holds."""
    require(path.is_file(), option, "a file", str(path), "check the path")
    return accounting.from_json(path.read_text())


def released_before(options: argparse.Namespace) -> Event:
    """The event of ``--after``; nothing without it."""
    return accounting.Compose(()) if options.after is None else event_in(options.after, "--after")


def target(options: argparse.Namespace) -> Target:
    """What `add_target` asked for, as the accountant takes it, which refuses none and several."""
    return {
        "target_epsilon": options.epsilon,
        "delta": options.delta,
        "target_advantage": options.advantage,
        "target_tradeoff": None if options.tradeoff is None else tuple(options.tradeoff),
    }


def reached(event: Event, options: argparse.Namespace) -> tuple[dict[str, float], str]:
    """What is proven of the event in terms of the target: for programs, and in words."""
    relation: Relation = options.relation
    if options.advantage is not None:
        value = accounting.advantage(event, relation=relation)
        return {"advantage": value}, f"advantage {six_digits_up(value)} of {options.advantage:g}"
    if options.tradeoff is not None:
        alpha, beta = options.tradeoff
        missed = accounting.tradeoff(event, alpha=alpha, relation=relation)
        least = six_digits_up(-missed).removeprefix("-")  # from below
        words = f"a share {least} missed, {beta:g} wanted, at false positive rate {alpha:g}"
        return {"alpha": alpha, "beta": missed}, words
    spent = accounting.epsilon(event, delta=options.delta, relation=relation)
    words = f"epsilon {six_digits_up(spent)} of {options.epsilon:g} at delta {options.delta:g}"
    return {"epsilon": spent, "delta": options.delta}, words


def and_before(after: Event, width: int) -> str:
    """A line on what else the printed values count, if anything; ``width`` is that of its name."""
    if after == accounting.Compose(()):
        return ""
    return f"\n{'before':{width}}{after}, counted as well"


def check_plot(path: Path | None) -> None:
    """Refuse a picture that could not be written, before the work is done."""
    require(
        path is None or (path.suffix in _PICTURES and path.parent.is_dir()),
        "--plot",
        f"a file ending in {', '.join(_PICTURES)} in a folder that exists",
        str(path),
        "make the folder first",
    )


def check_plot_of_target(options: argparse.Namespace) -> None:
    """The same where a run is drawn that was found for a target: that needs a delta."""
    check_plot(options.plot)
    require(
        options.plot is None or options.delta is not None,
        "--plot",
        "a budget of --epsilon and --delta",
        f"--advantage {options.advantage}, --tradeoff {options.tradeoff}",
        "draw the found run with: python -m dpfunc epsilon --plot",
    )


def errors_in_one_line(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """A wrong option ends the command with one line and exit code 2, as argparse has it."""

    @functools.wraps(run)
    def guarded(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except ValueError as error:
            print(f"dpfunc: {error}", file=sys.stderr)
            return 2

    return guarded


def rounded_up(value: float) -> str:
    """Four digits after the point. Less epsilon was not proven, and less noise may not do."""
    exact, enough = decimal.Decimal(repr(value)), decimal.Context(prec=400)
    return str(exact.quantize(decimal.Decimal("1e-4"), decimal.ROUND_CEILING, enough))


def six_digits_up(value: float) -> str:
    """Six digits in all, which suits small numbers as well; never below the value."""
    up = decimal.Context(prec=6, rounding=decimal.ROUND_CEILING)
    return f"{float(up.create_decimal(repr(value))):.6g}"
