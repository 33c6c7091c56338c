"""``python -m dpfunc steps``: the most steps for a budget, or for a bound on attacks."""

import argparse

from dpfunc import accounting
from dpfunc.commands import options as shared
from dpfunc.commands.calibrated import tell

DESCRIPTION = """\
How many steps a run may take within a budget (epsilon, delta).

  python -m dpfunc steps --epsilon 3 --delta 1e-5 --noise-multiplier 1 --sample-rate 0.01

The printed number meets the budget; one step more does not. Instead of a budget, say what share of
the data an attack with 1% false positives shall miss at least:

  python -m dpfunc steps --tradeoff 0.01 0.97 --noise-multiplier 1 --sample-rate 0.01

Where something was released from the same data before, --after FILE says what, and the budget holds
for all of it together."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The target and a step."""
    shared.add_target(parser)
    shared.add_noise(parser)
    shared.add_sampling(parser)
    shared.add_after(parser)
    shared.add_relation(parser)
    shared.add_output(parser, shows="epsilon over the steps and the trade-off curve")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the steps, in epochs as well, and what they give."""
    shared.check_plot_of_target(options)
    rate = shared.sample_rate(options)
    after = shared.released_before(options)
    steps = accounting.steps(
        **shared.target(options),
        noise_multiplier=options.noise_multiplier,
        sample_rate=rate,
        after=after,
        relation=options.relation,
    )
    event = after + accounting.dp_sgd(
        noise_multiplier=options.noise_multiplier, sample_rate=rate, steps=steps
    )
    return tell(
        event,
        after,
        options,
        found=("steps", f"{steps} ({steps * rate:.4g} epochs)"),
        numbers={"steps": steps, "epochs": steps * rate},
        setting={"sample_rate": rate},
    )
