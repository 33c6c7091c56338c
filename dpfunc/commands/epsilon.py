"""``python -m dpfunc epsilon``: what a run of DP-SGD costs."""

import argparse
import json
import math
from pathlib import Path

from dpfunc import accounting
from dpfunc.accounting import Bounds, Event
from dpfunc.checks import require
from dpfunc.commands import options as shared
from dpfunc.commands import schemes
from dpfunc.commands.plots import draw_run

DESCRIPTION = """\
What a run costs: the smallest epsilon that is proven for it at a delta.

Every step adds Gaussian noise of SIGMA times the clipping norm to the sum of clipped gradients,
over a batch that holds each record independently with the sample rate. The answer is an interval
that is proven to hold the truth, for whoever sees every update of the model.

  python -m dpfunc epsilon --noise-multiplier 1.1 --batch-size 256 --dataset-size 60000 \\
      --epochs 60 --delta 1e-5
  python -m dpfunc epsilon --noise-multiplier 2 --batch-size 500 --dataset-size 50000 \\
      --steps 2000 --delta 1e-6 --strategy banded:16 --sampler cyclic
  python -m dpfunc epsilon --event ledger.json --delta 1e-6 --plot run.png

An epsilon near 1 or below protects well; above 10 it says little. Compare epsilons only at equal
delta and for the same neighbouring relation. Shuffled batches are not Poisson samples: what they
cost is more, and is not what this prints."""

_MEANS = {
    "add_or_remove": "adding or removing one record",
    "add": "adding one record",
    "remove": "removing one record",
    "zero_out": "zeroing out one record",
    "replace_one": "replacing one record",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The run, or an event that describes it; delta; how to show the answer."""
    shared.add_noise(parser, required=False)
    shared.add_sampling(parser)
    schemes.add_scheme(parser)
    parser.add_argument("--steps", type=int, metavar="T", help="number of updates of the model")
    parser.add_argument(
        "--epochs", type=float, metavar="E", help="expected passes over the data, instead of steps"
    )
    parser.add_argument(
        "--event",
        type=Path,
        metavar="FILE",
        help="instead of all these: any event, as written by dpfunc.accounting.to_json",
    )
    shared.add_delta(parser)
    shared.add_relation(parser)
    shared.add_output(parser, shows="epsilon over the steps and the trade-off curve")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the interval and what it means."""
    shared.check_plot(options.plot)
    event = _event(options)
    bounds = accounting.epsilon_bounds(event, delta=options.delta, relation=options.relation)
    if options.json:
        print(json.dumps(_as_json(event, bounds, options)))
    else:
        print(_as_text(event, bounds, options))
    if options.plot is not None:
        draw_run(event, delta=options.delta, relation=options.relation, path=options.plot)
    return 0


def _event(options: argparse.Namespace) -> Event:
    described = [options.noise_multiplier, options.sample_rate, options.batch_size]
    described += [options.dataset_size, options.steps, options.epochs]
    described += [options.sampler, options.strategy]
    if options.event is not None:
        require(
            all(option is None for option in described),
            "--event",
            "no other description of the run beside it",
            str(options.event),
            "leave the noise, the sampling and the steps to the event",
        )
        return shared.event_in(options.event, "--event")
    require(
        options.noise_multiplier is not None
        and (options.steps is None) != (options.epochs is None),
        "epsilon",
        "--noise-multiplier and either --steps or --epochs, or --event",
        {"steps": options.steps, "epochs": options.epochs, "sigma": options.noise_multiplier},
        "describe the run",
    )
    if schemes.is_named(options):
        return schemes.Run(options).event(options.noise_multiplier)
    rate = shared.sample_rate(options)
    return accounting.dp_sgd(
        noise_multiplier=options.noise_multiplier,
        sample_rate=rate,
        steps=shared.steps(options, rate),
    )


def _as_json(event: Event, bounds: Bounds, options: argparse.Namespace) -> dict[str, object]:
    answer = {"lower": bounds.lower, "upper": bounds.upper}
    return {
        "epsilon": {name: _number(value) for name, value in answer.items()},
        "delta": options.delta,
        "relation": options.relation,
        "engine": bounds.engine,
        "event": json.loads(accounting.to_json(event)),
    }


def _as_text(event: Event, bounds: Bounds, options: argparse.Namespace) -> str:
    if bounds.upper == math.inf:
        return f"epsilon  infinite: {event} has no guarantee at delta {options.delta:g}."
    return (
        f"epsilon  {shared.rounded_up(bounds.upper)}\n"
        f"proven   {bounds.lower:.7g} <= epsilon <= {bounds.upper:.7g} ({bounds.engine})\n"
        f"event    {event}\n"
        f"means    ({shared.rounded_up(bounds.upper)}, {options.delta:g})-differential privacy "
        f"under {_MEANS[options.relation]}, for whoever sees every release,\n"
        f"         provided that records are sampled as the event says and that nothing else that\n"
        f"         was computed from them (losses, accuracies, the choice of settings) is shown."
    )


def _number(value: float) -> float | str:
    """JSON has no infinity."""
    return value if math.isfinite(value) else "inf"
