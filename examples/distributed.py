"""Several processes, one for each device: an ordinary loop, and two lines more than on one.

torchrun --nproc-per-node 2 examples/distributed.py --epochs 2
"""

import argparse

import torch
from torch import distributed as dist
from torch import nn

import dpfunc as dp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=float, default=2)
parser.add_argument("--steps", type=int, help="in the place of epochs")
options = parser.parse_args()

if dist.is_torchelastic_launched():  # by torchrun; alone, the same script is one process
    dist.init_process_group()  # the first of the two lines

x = torch.randn(2000, 20, generator=torch.Generator().manual_seed(1))  # the same everywhere
y = (x[:, :3].sum(1) > 0).long()
data = torch.utils.data.TensorDataset(x, y)
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

engine = dp.PrivacyEngine(
    model,
    sample_size=len(data),
    batch_size=100,
    target_epsilon=3.0,
    delta=1e-5,
    steps=options.steps,
    epochs=None if options.steps else options.epochs,
    max_grad_norm=1.0,
    key=dp.distributed.shared_key(),
    group=dist.group.WORLD,  # the second; `shards=12` as well, to go on with 1, 2, 3, 4, 6 or 12
    on_budget_spent=lambda _: None,
).attach(optimizer)

while engine.remaining_steps() > 0:
    for inputs, labels in engine.loader(data):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

engine.detach()
rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
share = (model(x).argmax(1) == y).double().mean()
bits = sum(int(p.detach().view(torch.int32).sum(dtype=torch.int64)) for p in model.parameters())
line = (
    f"process {rank} of {world}: {engine.steps_taken} steps, epsilon {engine.epsilon():.2f}, "
    f"accuracy on the training data {share:.3f}, weights {bits % 2**32:08x}\n"
)
print(line, end="", flush=True)
if dist.is_initialized():
    dist.destroy_process_group()
