"""The forward pass of a model whose Python code looks at the data."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import dpfunc as dp


class Padded(nn.Module):
    """Takes a shorter way where nothing is padded, as the masks of transformers do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, mask):
        hidden = self.first(x)
        if not mask.all():
            hidden = hidden * torch.gather(mask[:, None].float(), 1, mask[:, None].long() * 0)
        return self.second(hidden)


def test_a_batch_that_takes_another_way_than_a_few_of_its_samples():
    torch.manual_seed(0)
    x, mask = torch.randn(16, 3), torch.arange(16) != 5  # few samples of a batch leave it out
    model = Padded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in range(4):
        engine = dp.PrivacyEngine(
            model,
            sample_size=16,
            batch_size=16,
            noise_multiplier=0.0,
            max_grad_norm=1e6,
            delta=1e-3,
            key=dp.key(seed),
        ).attach(optimizer)
        for inputs, of_batch, labels in engine.loader(TensorDataset(x, mask, mask.long())):
            F.cross_entropy(model(inputs, of_batch), labels).backward()
            optimizer.step()
        assert engine.steps_taken == 1
        engine.detach()
