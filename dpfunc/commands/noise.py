"""``python -m dpfunc noise``: the least noise that keeps a run within a budget."""

import argparse
import json

from dpfunc import accounting
from dpfunc.commands import options as shared
from dpfunc.commands.plots import draw_run

DESCRIPTION = """\
The least noise with which a run keeps within a budget (epsilon, delta).

  python -m dpfunc noise --epsilon 3 --delta 1e-5 --sample-rate 0.01 --steps 1000

What is printed has been put to the accountant and meets the budget; noise a little less does not.
Add the printed multiple of the clipping norm, as a standard deviation, to every summed gradient."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The budget and the run without its noise."""
    shared.add_target(parser)
    shared.add_delta(parser)
    shared.add_sampling(parser)
    shared.add_length(parser)
    shared.add_output(parser, shows="epsilon over the steps and the trade-off curve")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the noise multiplier and the epsilon that it gives."""
    shared.check_plot(options.plot)
    rate = shared.sample_rate(options)
    steps = shared.steps(options, rate)
    sigma = accounting.noise_multiplier(
        target_epsilon=options.epsilon, delta=options.delta, sample_rate=rate, steps=steps
    )
    event = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    spent = accounting.epsilon(event, delta=options.delta)
    if options.json:
        answer = {"noise_multiplier": sigma, "epsilon": spent, "delta": options.delta}
        print(json.dumps(answer | {"sample_rate": rate, "steps": steps}))
    else:
        print(
            f"noise multiplier  {sigma:.6g}\n"
            f"spends            epsilon {spent:.6g} of {options.epsilon:g} at delta "
            f"{options.delta:g}, over {steps} steps at sample rate {rate:g}"
        )
    if options.plot is not None:
        draw_run(event, delta=options.delta, relation="add_or_remove", path=options.plot)
    return 0
