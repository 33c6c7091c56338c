"""Federated averaging in which a person, with all records, is the unit of privacy (DP-FedAvg).

Users train on their own records. The server clips what each of them sends, and adds noise.

python examples/federated.py --steps 30
"""

import argparse

import torch
from torch import nn

import dpfunc as dp
from dpfunc import accounting

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=30, help="rounds")
options = parser.parse_args()

users, rate, delta = 500, 0.1, 1e-4
truth = torch.randn(8, 2)
records = [torch.randn(20, 8) + torch.randn(8) for _ in range(users)]
model = nn.Linear(8, 2)


def trained_locally(x):
    """What a few steps on the records of one user change in the model."""
    own = nn.Linear(8, 2)
    own.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(own(x), (x @ truth).argmax(1)).backward()
        optimizer.step()
    before = dict(model.named_parameters())
    return {name: (new - before[name]).detach() for name, new in own.named_parameters()}


key = dp.key()
sigma = accounting.noise_multiplier(
    target_epsilon=4.0, delta=delta, sample_rate=rate, steps=options.steps
)
clip, noise = dp.Clip(0.5), dp.GaussianNoise(sigma, key=key)
state = {"clip": clip.init(), "noise": noise.init(dp.named_params(model))}
for step in range(options.steps):
    drawn, _ = dp.sampling.poisson(key, step, size=users, rate=rate)
    received = [trained_locally(records[user]) for user in drawn]
    updates = {
        name: torch.stack([u[name] for u in received])
        if received
        else param.new_zeros(0, *param.shape)
        for name, param in dp.named_params(model).items()
    }
    mean, state = dp.release_users(
        updates, clip=clip, noise=noise, state=state, expected_users=rate * users
    )
    with torch.no_grad():
        for name, param in model.named_parameters():
            param += mean[name]
spent = accounting.epsilon(noise.event(state["noise"], sample_rate=rate), delta=delta)
print(f"{options.steps} rounds, epsilon {spent:.2f} for each user")
