"""`select`: the best of a secret number of runs, with the price of having chosen it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dpfunc.accounting import Event, PrivateSelection, epsilon
from dpfunc.accounting.events.dp_sgd import phases
from dpfunc.checks import require
from dpfunc.experiments.rows import Row, hash_of, read
from dpfunc.experiments.sweeps import Grid, Run, configs, made
from dpfunc.random.keys import Key, fold_in, require_key
from dpfunc.random.subsets import uniform_index
from dpfunc.sampling.number_of_runs import runs_to_make

_NUMBERS = 2**61  # two runs of one number: the chance is nothing


class Selected(NamedTuple):
    """``best``: the row that may be shown, None where no run was made (a Poisson number of runs).

    It is without ``not_private/...`` results and without its time (``seconds`` is 0): no event pays
    for those. Its ``seed`` is a random number, by which you find the run in your file.

    ``event``: what choosing it released, in all; ``epsilon`` at the ``delta`` of the call.
    """

    best: Row | None
    event: PrivateSelection
    epsilon: float


def select(
    run: Run,
    grid: Grid,
    *,
    score: str,
    event: Event,
    mean_runs: float,
    shape: float = 1.0,
    path: str | Path,
    key: Key,
    delta: float,
) -> Selected:
    """Make K runs, K random, settings drawn from the grid; give the best and what that cost.

    ``run`` is that of `sweep`. ``score`` names the result by which the best is chosen, the larger
    the better (NaN is the worst): it has to be part of the private output, such as an accuracy on
    public data or a noisy count. ``event`` describes one run whatever its settings: each run's own
    event must be it, or the same scheme with at least its noise, at most its steps and rate.

    Guarantee: the best row is `dpfunc.accounting.PrivateSelection` of ``event``. It covers that row
    alone, and not which of the K it was: the tenth tells that nine were worse, so runs have random
    numbers. ``path``, which is needed to resume, has all K runs in order: keep it as secret as the
    data, do not count its lines, and delete it afterwards. Nor may anybody learn how long it took.
    Take a new ``key`` for each selection.

    | case | result |
    |---|---|
    | a run whose event is not below ``event`` | ValueError, and nothing is chosen |
    | a score that is missing, or named ``not_private/...`` | ValueError |
    """
    require_key("select", key)
    require(
        not score.startswith("not_private/"),
        "select",
        "a score that is part of the private output",
        score,
        "choose by an accuracy on public data, or by a noisy count",
    )
    selection = PrivateSelection(event, mean_runs=mean_runs, shape=shape)
    price = epsilon(selection, delta=delta)
    choices = configs("select", grid)
    count = runs_to_make(fold_in(key, "select"), mean_runs=mean_runs, shape=shape)
    drawn = uniform_index(fold_in(key, "settings"), count, below=len(choices)).tolist()
    numbers = uniform_index(fold_in(key, "numbers"), count, below=_NUMBERS).tolist()
    wanted = [(choices[index], number) for index, number in zip(drawn, numbers, strict=True)]
    own = {(hash_of(config), number) for config, number in wanted}
    strange = [row for row in read(Path(path)) if (row.hash, row.seed) not in own]
    require(
        not strange,
        "select",
        f"a file of this selection's own, {path}",
        strange[:1],
        "pass a new path: runs that were seen before cannot be selected from",
    )
    rows = made("select", run, wanted, Path(path), fold_in(key, "runs"), delta)
    for row in rows:
        require(
            row.event is not None and is_below(row.event, event),
            "select",
            f"runs that release no more than {event!r}",
            row.event,
            "return the event of each run, and pass one that lies above all of them",
        )
    scores = [row.number(score) for row in rows]
    best = max(range(count), key=lambda i: (scores[i] == scores[i], scores[i], -i), default=None)
    return Selected(None if best is None else _shown(rows[best]), selection, price)


def _shown(row: Row) -> Row:
    """What the event of the run covers of its row."""
    covered = {n: value for n, value in row.results.items() if not n.startswith("not_private/")}
    return replace(row, results=covered, seconds=0.0)


def is_below(one: Event, most: Event) -> bool:
    """Whether an order that is proven says so: the same event, or less of the same scheme.

    More noise is post-processing of less; fewer steps are part of more; a smaller rate is a Poisson
    sample of the larger sample, with a record of it dropped at random.
    """
    if one == most:
        return True
    try:
        ours, theirs = phases(one), phases(most)
    except TypeError:  # not Gaussian releases
        return False
    if len(ours) != 1 or len(theirs) != 1:
        return False
    (sigma, rate, steps), (least, highest, longest) = ours[0], theirs[0]
    return sigma >= least and rate <= highest and steps <= longest
