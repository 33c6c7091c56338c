"""``python -m dpfunc demo``: options in, a private and a plain run, a table and a plot out."""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import dpfunc as dp
from dpfunc import accounting
from dpfunc.checks import require
from dpfunc.commands.demo.data import DataError, Images, load_digits, load_folder
from dpfunc.commands.demo.report import plot, table
from dpfunc.commands.demo.training import Plan, Progress, tanh_cnn, train_plain, train_private

DESCRIPTION = """\
Train a small convolutional network on handwritten digits with differential privacy, then the same
network without, and compare. By default the noise is calibrated so that the steps use up exactly
the budget; with --noise-multiplier, training stops early when the next step would exceed it.
Each record's presence is what (epsilon, delta) protects; the loss on screen is not private."""

_STEPS, _RATE = 40, 0.1  # half a minute on two cores
_FULL_STEPS, _FULL_RATE = 100, 0.25


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the ``demo`` command."""
    option = parser.add_argument
    option("--epsilon", type=float, default=3.0, help="privacy budget (default %(default)s)")
    option("--delta", type=float, default=1e-5, help="(default %(default)s)")
    option(
        "--full",
        action="store_true",
        help=f"a run of minutes and a better model: {_FULL_STEPS} steps at rate {_FULL_RATE:g}",
    )
    option("--steps", type=int, help=f"most steps to take (default {_STEPS})")
    option(
        "--sample-rate",
        type=float,
        help=f"probability that a record is in a step's batch (default {_RATE:g})",
    )
    option("--noise-multiplier", type=float, help="default: calibrated to the budget and the steps")
    option(
        "--data", type=Path, metavar="DIR", help="a folder of MNIST-format files, gzipped or not"
    )
    option("--plot", type=Path, default=Path("dpfunc-demo.png"), help="(default %(default)s)")
    option("--seed", type=int, help="repeat a run exactly; default: a secret key from the system")
    option("--device", default="cpu", help="(default %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Train both ways and report; 0, or 2 with one line where an option or the data is wrong."""
    try:
        key = dp.key(options.seed)
        plan = _plan(options)
        data = _load(options, key)
    except (DataError, ValueError) as error:
        print(f"dpfunc demo: {error}", file=sys.stderr)
        return 2
    print(
        f"{len(data.train_y)} images to train on, {len(data.test_y)} to test. "
        f"Noise multiplier {plan.noise_multiplier:.4f}, sample rate {plan.sample_rate:g}, "
        f"budget epsilon {plan.target_epsilon:g} at delta {plan.delta:g}."
    )
    private = _watch("private", train_private(_model(key, data), data, plan, key), plan)
    plain = _watch("non-private", train_plain(_model(key, data), data, plan, key), plan)
    print(table(private, plain, plan.delta))
    plot(private, plain, plan.target_epsilon, options.plot)
    print(_meaning(private[-1].epsilon, plan.delta))
    print(f"Accuracy and epsilon over the steps: {options.plot}")
    return 0


def _meaning(epsilon: float, delta: float) -> str:
    """What the budget promises to each person in the data, in one sentence."""
    factor = math.exp(epsilon) if epsilon < 700 else math.inf
    return (
        f"Epsilon {epsilon:.3g} means: whoever sees the private model can raise or lower the odds "
        f"that a given image was trained on by a factor of {factor:.3g} at most, but for a "
        f"probability of {delta:g}."
    )


def _plan(options: argparse.Namespace) -> Plan:
    """The plan, with the noise calibrated; ValueError where the budget cannot be met."""
    if options.steps is None:
        options.steps = _FULL_STEPS if options.full else _STEPS
    if options.sample_rate is None:
        options.sample_rate = _FULL_RATE if options.full else _RATE
    target = {"target_epsilon": options.epsilon, "delta": options.delta}
    require(options.steps >= 1, "--steps", "at least 1", options.steps, "try 100")
    require(
        0 < options.sample_rate <= 1,
        "--sample-rate",
        "a probability above 0",
        options.sample_rate,
        "try 0.25",
    )
    require(options.epsilon < math.inf, "--epsilon", "a finite budget", options.epsilon, "try 3")
    require(
        options.plot.suffix == ".png" and options.plot.parent.is_dir(),
        "--plot",
        "a .png file in a folder that exists",
        str(options.plot),
        "make the folder first",
    )
    noise = options.noise_multiplier
    if noise is None:
        noise = accounting.noise_multiplier(
            **target, sample_rate=options.sample_rate, steps=options.steps
        )
    one_step = accounting.dp_sgd(noise_multiplier=noise, sample_rate=options.sample_rate, steps=1)
    spent = accounting.epsilon(one_step, delta=options.delta)
    require(
        noise < math.inf and spent <= options.epsilon,
        "--noise-multiplier",
        f"enough noise for one step within epsilon {options.epsilon:g}",
        noise,
        f"one step would spend {spent:.4g}: raise it, or leave it out to have it calibrated",
    )
    return Plan(
        **target, sample_rate=options.sample_rate, steps=options.steps, noise_multiplier=noise
    )


def _load(options: argparse.Namespace, key: dp.Key) -> Images:
    data = load_digits(key) if options.data is None else load_folder(options.data)
    try:
        device = torch.device(options.device)
        require(device.type != "meta", "--device", "one that computes", "meta", "try cpu")
        return data.to(device)
    except (RuntimeError, AssertionError) as error:  # torch says "not compiled with" by assertion
        reason = str(error).splitlines()[0]
        raise DataError(f"--device: {options.device} cannot be used: {reason}") from error


def _model(key: dp.Key, data: Images) -> nn.Module:
    return tanh_cnn(key).to(data.train_x.device)


def _watch(name: str, training: Iterator[Progress], plan: Plan) -> list[Progress]:
    """Run a training to its end behind a progress bar; everything it reported."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
    except ImportError as error:
        raise SystemExit('The demo draws with rich: pip install "dpfunc[demo]"') from error
    columns = (
        TextColumn(f"{name:<11}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
        TextColumn("epsilon {task.fields[epsilon]:.3f}"),
        TimeElapsedColumn(),
    )
    seen = []
    with Bar(*columns) as bar:
        task = bar.add_task(name, total=plan.steps, loss=math.nan, accuracy=0.0, epsilon=0.0)
        for progress in training:
            seen.append(progress)
            bar.update(
                task,
                completed=progress.step,
                loss=progress.loss,
                accuracy=progress.accuracy,
                epsilon=progress.epsilon,
            )
    return seen
