"""The accountant alone: a budget for two phases of training, without torch.

python examples/budget.py
"""

import argparse

from dpfunc import accounting

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=1000, help="of the second phase")
options = parser.parse_args()

delta = 1e-6
first = accounting.dp_sgd(noise_multiplier=1.5, sample_rate=0.01, steps=2000)
print(f"first phase: epsilon {accounting.epsilon(first, delta=delta):.3f}")

sigma = accounting.noise_multiplier(
    target_epsilon=3.0, delta=delta, sample_rate=0.01, steps=options.steps, after=first
)
second = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=0.01, steps=options.steps)
both = accounting.epsilon_bounds(first + second, delta=delta)
print(f"second phase: noise multiplier {sigma:.3f} keeps both within epsilon 3")
print(f"both together: epsilon between {both.lower:.6f} and {both.upper:.6f}")
print(f"a membership test gains at most {accounting.advantage(first + second):.3f}")
