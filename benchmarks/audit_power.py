"""How much the statistics of an audit find of what is there: scores of a Gaussian mechanism.

    python -m benchmarks.audit_power                  up to 1,000 scores in and out
    python -m benchmarks.audit_power --most 10000     all

Means of repeated audits at 95 % and delta 1e-5, eight times as many of a hundred scores. The truth
is known: mu, and the epsilon of mu. In brackets the share of what the prototype of this library
found, where that was measured: below 0.95 the power would be less than promised.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpfunc import accounting, audit

DELTA, SURE = 1e-5, 0.95
REFERENCE = Path(__file__).parents[1] / "tests" / "audit" / "statistics" / "reference.json"
# Of the path of guesses in one run, which that file lacks: mu and scores on each side, epsilon.
PATHS = {
    (0.5, 100): 0.31, (0.5, 1000): 0.70, (1.0, 100): 1.03, (1.0, 1000): 1.57,
    (2.0, 100): 2.28, (2.0, 1000): 3.48, (3.0, 1000): 4.67,
}  # fmt: skip
HEAD = (
    "mu (true epsilon)",
    "n + n",
    "epsilon, ranks",
    "mu, ranks",
    "its epsilon",
    "epsilon, one run",
    "mu, one run",
)


class Found(NamedTuple):
    """A mean over repeats, and what the prototype found; None where it was not measured."""

    value: float | None
    before: float | None

    @property
    def share(self) -> float | None:
        return self.value / self.before if self.value is not None and self.before else None

    def __str__(self) -> str:
        if self.value is None:
            return ""
        return f"{self.value:.2f}" + (f" ({self.share:.2f})" if self.share is not None else "")


class Line(NamedTuple):
    mu: float
    count: int
    epsilon: Found
    gaussian: Found
    of_mu: Found
    path: Found
    curve: Found


def lines(most: int, repeats: int) -> Iterator[Line]:
    """One for each mechanism and number of scores of the prototype's table, up to ``most``."""
    one = {"confidence": SURE, "setting": "one_run"}
    for case in json.loads(REFERENCE.read_text())["measured_power"]:
        mu, count = case["mu"], case["n_each"]
        if count > most:
            continue
        rng = np.random.default_rng(1)
        draws = [
            audit.Scores(rng.normal(size=count) + mu, rng.normal(size=count), fair_coins=True)
            for _ in range(repeats * (8 if count <= 100 else 1))
        ]

        mean = partial(_mean, draws)
        epsilon = mean(
            lambda s: audit.epsilon_lower_bound(s, delta=DELTA, confidence=SURE), case["many"]
        )
        gaussian = mean(lambda s: audit.mu_lower_bound(s, confidence=SURE), case["gdp"])
        of_mu = Found(audit.gaussian_epsilon(gaussian.value or 0.0, delta=DELTA), case["eps_of_mu"])
        path = curve = Found(None, None)
        if "one_run_fdp_mu" in case:
            before = PATHS.get((mu, count))
            path = mean(lambda s: audit.epsilon_lower_bound(s, delta=DELTA, **one), before)
            curve = mean(lambda s: audit.mu_lower_bound(s, **one), case["one_run_fdp_mu"])
        yield Line(mu, count, epsilon, gaussian, of_mu, path, curve)


def _mean(
    draws: list[audit.Scores], answer: Callable[[audit.Scores], audit.Result], of: object
) -> Found:
    before = of if isinstance(of, float) else None
    return Found(float(np.mean([answer(scores).value for scores in draws])), before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1000, help="scores in, and as many out")
    parser.add_argument("--repeats", type=int, default=8)
    given = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for line in lines(given.most, given.repeats):
        true = accounting.epsilon(accounting.Gaussian(1 / line.mu), delta=DELTA)
        cells = (f"{line.mu:g} ({true:.2f})", f"{line.count:,}", *line[2:])
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
