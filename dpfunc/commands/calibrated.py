"""How the commands end that find a number for a target: what was found, what it spends, a plot."""

import argparse
import json
from collections.abc import Mapping

from dpfunc.accounting import Event
from dpfunc.commands import options as shared
from dpfunc.commands.plots import draw_run


def tell(
    event: Event,
    after: Event,
    options: argparse.Namespace,
    *,
    found: tuple[str, str],
    over: str = "",
    numbers: Mapping[str, float],
    setting: Mapping[str, float],
) -> int:
    """Print what meets the target; the exit code.

    ``event``: all that is released then, ``after`` the part of it that was there before.
    ``found``: a label and what stands beside it. ``over``: what follows what is spent. ``numbers``
    and ``setting``: the entries of the JSON, before and after those of the target.
    """
    values, words = shared.reached(event, options)
    if options.json:
        print(json.dumps({**numbers, **values, "relation": options.relation, **setting}))
    else:
        label, text = found
        width = max(len(label), len("spends")) + 2
        spent = f"{words}{over}{shared.and_before(after, width)}"
        print(f"{label:{width}}{text}\n{'spends':{width}}{spent}")
    if options.plot is not None:
        draw_run(event, delta=options.delta, relation=options.relation, path=options.plot)
    return 0
