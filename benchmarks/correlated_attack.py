"""The attack on rounded noise of a matrix, over the number of steps seen: it, and dpfunc's release.

An attacker knows both sums that a run may be of, and the strategy C. Noise of whole numbers that
goes through ``C^-1`` is gone from ``C y`` modulo the last bit of C: what is left is the data's. So
in each step the attacker compares ``(C y)_t mod 1`` with what either data set would leave, and
guesses the one that fits in more steps; where both fit alike, the likelihood of the real Gaussian
decides.

    python -m benchmarks.correlated_attack --plot docs/correlated_attack.png
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import dpfunc as dp
from dpfunc.strategies.records import matrix as strategy_matrix
from dpfunc.types import Summed

Release = Callable[[torch.Tensor], torch.Tensor]
STEPS, DEVIATION, GAMES, BOUND = 8, 10.0, 4000, 1.0
STRATEGY = dp.correlated.Toeplitz(STEPS, (1.0, 0.375, 0.25))
GRID = 2.0**-3  # far below the deviation; all sums are whole multiples of it
SUMS = torch.tensor([3.0, -6.0, 7.0, 2.0, -2.0, 6.0, -4.0, 5.0]) * GRID  # of the record


def naive(sums: torch.Tensor) -> torch.Tensor:
    """``S + C^-1 xi`` with xi whole multiples of the grid: sums and result ``[steps, games]``."""
    noise: list[torch.Tensor] = []
    for t, own in enumerate(sums):
        xi = dp.rounded_normal(dp.key(t), own.shape, scale=DEVIATION / GRID).double() * GRID
        for i, c in enumerate(STRATEGY.coefficients[1 : t + 1], 1):
            xi -= c * noise[t - i]
        noise.append(xi)
    return sums.double() + torch.stack(noise)


def ours(sums: torch.Tensor) -> torch.Tensor:
    """`CorrelatedNoise` of the same deviation: a coordinate for each game."""
    multiplier = DEVIATION / dp.correlated.column_norm(STRATEGY) / BOUND
    mechanism = dp.CorrelatedNoise(multiplier, STRATEGY, key=dp.key(99))
    state, out = mechanism.init({"w": sums[0]}), []
    for own in sums:
        released, state = mechanism.add(Summed({"w": own.clone()}, BOUND), state)
        out.append(released["w"].double())
    return torch.stack(out)


def guesses_right(release: Release, games: int = GAMES) -> list[float]:
    """How often the attacker tells the record's sums from zeros, after 1, 2, ... steps."""
    present = dp.bernoulli(dp.key(2**20), (games,), probability=0.5)
    matrix = torch.from_numpy(strategy_matrix(STRATEGY))
    seen = matrix @ release(SUMS[:, None] * present)  # C y, of which the noise is C n
    shift = matrix @ SUMS.double()
    fits = []
    for expected in (torch.zeros(STEPS, 1), shift[:, None]):
        away = (seen - expected) / GRID  # whole, if the noise was and these are the sums
        fits.append(((away - away.round()).abs() < 1e-4).long().cumsum(0))
    likelier = (seen * shift[:, None]).cumsum(0) > shift.square().cumsum(0)[:, None] / 2
    guess = torch.where(fits[1] == fits[0], likelier, fits[1] > fits[0])
    return (guess == present).double().mean(1).tolist()


def ideal(steps: int) -> float:
    """How often the best attack on the Gaussian mechanism of real numbers is right."""
    shift = np.convolve(SUMS.double().numpy(), STRATEGY.coefficients)[:steps]
    return float(stats.norm.cdf(np.linalg.norm(shift) / (2 * DEVIATION)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, help="where to draw it")
    parser.add_argument("--games", type=int, default=GAMES)
    options = parser.parse_args()
    print("| steps | rounded noise of a matrix | CorrelatedNoise | a real Gaussian |")
    print("|---|---|---|---|")
    rows = list(zip(*(guesses_right(r, options.games) for r in (naive, ours)), strict=True))
    for steps, (rounded, released) in enumerate(rows, 1):
        print(f"| {steps} | {rounded:.3f} | {released:.3f} | {ideal(steps):.3f} |")
    if options.plot:
        draw(rows, options)


def draw(rows: list[tuple[float, float]], options: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    steps = range(1, STEPS + 1)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(steps, [row[0] for row in rows], "o-", label="S + C⁻¹ ξ, ξ whole numbers of a grid")
    axes.plot(steps, [row[1] for row in rows], "s-", label="dpfunc.CorrelatedNoise")
    axes.plot(
        steps, [ideal(n) for n in steps], "--", color="gray", label="a real Gaussian, at best"
    )
    axes.set(xlabel="steps that the attacker sees", ylabel="attacker is right", ylim=(0.4, 1.03))
    axes.set_title(f"Is the record there? Noise of {DEVIATION:g} bounds, {options.games} games")
    axes.legend(loc="center right")
    axes.grid(alpha=0.3)
    figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
