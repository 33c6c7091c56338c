"""The attack on noisy floats, over the number of coordinates: float32 noise and the lattice.

python -m benchmarks.float_attack --plot docs/float_attack.png
"""

import argparse
from pathlib import Path

from scipy import stats

from tests.laws.float_attack import float_noise, guesses_right, lattice_noise

DEVIATION, GAMES = 10.0, 4000
COORDINATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, help="where to draw it")
    options = parser.parse_args()
    ideal = stats.norm.cdf(0.5 / DEVIATION)
    print("| coordinates | float32 noise | GaussianNoise |\n|---|---|---|")
    rows = []
    for coordinates in COORDINATES:
        game = {"coordinates": coordinates, "deviation": DEVIATION, "games": GAMES}
        floats = guesses_right(float_noise(DEVIATION), **game)
        lattice = guesses_right(lattice_noise(DEVIATION), **game)
        rows.append((floats, lattice))
        print(f"| {coordinates} | {floats:.3f} | {lattice:.3f} |", flush=True)
    print(f"An attack on the real Gaussian: {ideal:.3f}")
    if options.plot:
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        axes.plot(
            COORDINATES, [f for f, _ in rows], "o-", label="value + torch.randn * sigma, float32"
        )
        axes.plot(COORDINATES, [n for _, n in rows], "s-", label="dpfunc.GaussianNoise")
        axes.axhline(ideal, color="gray", linestyle="--", label="best attack on a real Gaussian")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="coordinates of the gradient", ylabel="attacker is right", ylim=(0.4, 1.03))
        axes.set_title(f"Is the record there? Noise multiplier {DEVIATION:g}, {GAMES} games")
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
