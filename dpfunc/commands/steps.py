"""``python -m dpfunc steps``: how long a run may be within a budget."""

import argparse
import json

from dpfunc import accounting
from dpfunc.commands import options as shared
from dpfunc.commands.plots import draw_run

DESCRIPTION = """\
How many steps a run may take within a budget (epsilon, delta).

  python -m dpfunc steps --epsilon 3 --delta 1e-5 --noise-multiplier 1 --sample-rate 0.01

The printed number meets the budget; one step more does not."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The budget and a step."""
    shared.add_target(parser)
    shared.add_delta(parser)
    shared.add_noise(parser)
    shared.add_sampling(parser)
    shared.add_output(parser, shows="epsilon over the steps and the trade-off curve")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the steps, in epochs as well, and the epsilon that they spend."""
    shared.check_plot(options.plot)
    rate = shared.sample_rate(options)
    steps = accounting.steps(
        target_epsilon=options.epsilon,
        delta=options.delta,
        noise_multiplier=options.noise_multiplier,
        sample_rate=rate,
    )
    event = accounting.dp_sgd(
        noise_multiplier=options.noise_multiplier, sample_rate=rate, steps=steps
    )
    spent = accounting.epsilon(event, delta=options.delta)
    if options.json:
        answer = {"steps": steps, "epochs": steps * rate, "epsilon": spent}
        print(json.dumps(answer | {"delta": options.delta, "sample_rate": rate}))
    else:
        print(
            f"steps   {steps} ({steps * rate:.4g} epochs)\n"
            f"spends  epsilon {spent:.6g} of {options.epsilon:g} at delta {options.delta:g}"
        )
    if options.plot is not None:
        draw_run(event, delta=options.delta, relation="add_or_remove", path=options.plot)
    return 0
