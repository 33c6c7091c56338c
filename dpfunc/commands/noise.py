"""``python -m dpfunc noise``: the least noise for a budget, or for a bound on attacks."""

import argparse

from dpfunc import accounting, correlated
from dpfunc.commands import options as shared
from dpfunc.commands import schemes
from dpfunc.commands.calibrated import tell

DESCRIPTION = """\
The least noise with which a run keeps within a budget (epsilon, delta).

  python -m dpfunc noise --epsilon 3 --delta 1e-5 --sample-rate 0.01 --steps 1000

What is printed has been put to the accountant and meets the budget; noise a little less does not.
Add the printed multiple of the clipping norm, as a standard deviation, to every summed gradient.

Instead of a budget, say what an attack that guesses who is in the data may achieve:

  python -m dpfunc noise --advantage 0.1 --sample-rate 0.01 --steps 1000

With --strategy the noise multiplier is that of one participation: normals of that many clipping
norms times the norm of a column of the strategy, of which later steps take back a part.

  python -m dpfunc noise --epsilon 8 --delta 1e-6 --batch-size 390.625 --dataset-size 50000 \\
      --steps 2048 --strategy banded:16 --sampler cyclic

Where something was released from the same data before, --after FILE says what, and the budget holds
for all of it together."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The target and the run without its noise."""
    shared.add_target(parser)
    shared.add_sampling(parser)
    schemes.add_scheme(parser)
    shared.add_length(parser)
    shared.add_after(parser)
    shared.add_relation(parser)
    shared.add_output(parser, shows="epsilon over the steps and the trade-off curve")


@shared.errors_in_one_line
def run(options: argparse.Namespace) -> int:
    """Print the noise multiplier and what it gives."""
    shared.check_plot_of_target(options)
    if schemes.is_named(options):
        return _of_scheme(options)
    rate = shared.sample_rate(options)
    steps = shared.steps(options, rate)
    after = shared.released_before(options)
    sigma = accounting.noise_multiplier(
        **shared.target(options),
        sample_rate=rate,
        steps=steps,
        after=after,
        relation=options.relation,
    )
    event = after + accounting.dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    return tell(
        event,
        after,
        options,
        found=("noise multiplier", shared.six_digits_up(sigma)),
        over=f", over {steps} steps at sample rate {rate:g}",
        numbers={"noise_multiplier": sigma},
        setting={"sample_rate": rate, "steps": steps},
    )


def _of_scheme(options: argparse.Namespace) -> int:
    described = schemes.Run(options)
    after = shared.released_before(options)
    sigma = correlated.noise_multiplier(
        **shared.target(options),
        sampler=described.sampler,
        strategy=described.strategy,
        steps=described.steps,
        after=after,
        relation=options.relation,
    )
    return tell(
        after + described.event(sigma),
        after,
        options,
        found=("noise multiplier", shared.six_digits_up(sigma)),
        over=f", over {described}",
        numbers={"noise_multiplier": sigma},
        setting={"steps": described.steps},
    )
