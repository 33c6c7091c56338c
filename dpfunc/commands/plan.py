"""``python -m dpfunc plan``: noise, batch size and steps for a budget, compared."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dpfunc import accounting
from dpfunc.checks import require
from dpfunc.commands import options as shared
from dpfunc.commands.plots import draw_plan

DESCRIPTION = """\
Choose noise, batch size and number of steps for a budget (epsilon, delta) and an amount of compute.

  python -m dpfunc plan --epsilon 3 --delta 1e-5 --dataset-size 60000 --epochs 20

All rows cost the same compute, so many epochs, and meet the same budget. What differs is the noise
in the end: the mean gradient of a step carries noise of sigma / B clipping norms, and over T steps
noise grows like sqrt(T) while progress grows like T. So the table compares sigma / (B sqrt(T)), as
a multiple of the least there is at this budget, that of the whole data set as one batch. Small
batches waste budget, large ones leave few steps to learn in. The arrow marks the smallest batch
whose noise is within --slack of the least in the table: a rule of thumb to start from, since the
best batch also depends on the model and its learning rate. Every sigma meets the budget, and is at
most a thousandth above the least that does; `dpfunc noise` finds that."""


_TOLERANCE = 1e-3  # enough to compare by; every row meets the budget


class Row(NamedTuple):
    """One way to spend the budget."""

    batch_size: int
    sample_rate: float
    steps: int
    noise_multiplier: float
    noise_per_step: float  # standard deviation of the mean gradient's noise, in clipping norms
    relative_noise: float  # over the run, as a multiple of the least


def add_options(parser: argparse.ArgumentParser) -> None:
    """The budget, the data, the compute."""
    shared.add_budget(parser)
    parser.add_argument("--dataset-size", type=int, required=True, metavar="N", help="records")
    parser.add_argument(
        "--epochs", type=float, required=True, metavar="E", help="compute: passes over the data"
    )
    parser.add_argument(
        "--batch-sizes",
        type=int,
        nargs="+",
        metavar="B",
        help="expected batch sizes to compare (default: powers of 2 up to the data set)",
    )
    parser.add_argument(
        "--slack",
        type=float,
        default=0.25,
        help="how much more noise than the least the marked row may have (default %(default)s)",
    )
    shared.add_relation(parser)
    shared.add_output(parser, shows="noise over batch size")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the table and the marked row."""
    shared.check_plot(options.plot)
    rows = _rows(options)
    chosen = smallest_within(rows, options.slack)
    if options.json:
        answer = {"epsilon": options.epsilon, "delta": options.delta, "epochs": options.epochs}
        answer |= {"relation": options.relation}
        rows_as_dicts = [row._asdict() for row in rows]
        print(json.dumps(answer | {"chosen": chosen._asdict(), "rows": rows_as_dicts}))
    else:
        print(_table(rows, chosen))
        print(_advice(options, chosen))
    if options.plot is not None:
        draw_plan(
            [row.batch_size for row in rows],
            [row.noise_multiplier for row in rows],
            [row.relative_noise for row in rows],
            chosen=chosen.batch_size,
            title=f"epsilon {options.epsilon:g}, delta {options.delta:g}, "
            f"{options.epochs:g} epochs of {options.dataset_size} records",
            path=Path(options.plot),
        )
    return 0


def _rows(options: argparse.Namespace) -> list[Row]:
    size, epochs = options.dataset_size, options.epochs
    require(size >= 1, "--dataset-size", "at least 1", size, "count the records")
    require(0 < epochs < math.inf, "--epochs", "a finite number > 0", epochs, "try 10")
    require(options.slack >= 0, "--slack", "at least 0", options.slack, "try 0.25")
    batch_sizes = options.batch_sizes or _powers_of_2(size)
    require(
        all(1 <= batch <= size for batch in batch_sizes),
        "--batch-sizes",
        "sizes between 1 and --dataset-size",
        batch_sizes,
        "leave them out for powers of 2",
    )
    budget = {"target_epsilon": options.epsilon, "delta": options.delta}
    rows = []
    for batch in sorted(set(batch_sizes)):
        rate = batch / size
        steps = max(1, math.ceil(epochs / rate * (1 - 1e-12)))
        sigma = accounting.noise_multiplier(
            **budget,
            sample_rate=rate,
            steps=steps,
            relation=options.relation,
            tolerance=_TOLERANCE,
        )
        rows.append((batch, rate, steps, sigma))
    whole = max(1, math.ceil(epochs))  # steps on everything: their noise is the same for any number
    least = accounting.noise_multiplier(
        **budget, sample_rate=1.0, steps=whole, relation=options.relation, tolerance=_TOLERANCE
    )
    least /= size * math.sqrt(whole)
    return [
        Row(batch, rate, steps, sigma, sigma / batch, sigma / (batch * math.sqrt(steps)) / least)
        for batch, rate, steps, sigma in rows
    ]


def _powers_of_2(size: int) -> list[int]:
    """Up to twelve of them below the size, and the size itself."""
    most = int(math.log2(size))
    return [2**power for power in range(max(0, most - 11), most + 1)] + [size]


def smallest_within(rows: Sequence[Row], slack: float) -> Row:
    """The first row, in order of batch size, with little more noise than the least."""
    least = min(row.relative_noise for row in rows)
    return next(row for row in rows if row.relative_noise <= least * (1 + slack))


def _table(rows: Sequence[Row], chosen: Row) -> str:
    head = ["", "batch", "rate", "steps", "sigma", "noise per step", "noise over the run"]
    lines = [head]
    for row in rows:
        lines.append(
            [
                "->" if row == chosen else "",
                f"{row.batch_size}",
                f"{row.sample_rate:.4g}",
                f"{row.steps}",
                shared.rounded_up(row.noise_multiplier),
                f"{row.noise_per_step:.2e}",
                f"{row.relative_noise:.2f} x least",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _advice(options: argparse.Namespace, chosen: Row) -> str:
    sigma = shared.rounded_up(chosen.noise_multiplier)
    return (
        f"\nBatches of {chosen.batch_size} with noise multiplier {sigma} for {chosen.steps} steps "
        f"keep within epsilon {options.epsilon:g} at delta {options.delta:g}."
    )
