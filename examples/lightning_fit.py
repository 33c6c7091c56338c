"""Lightning with differential privacy: the LightningModule is the one that you have.

python examples/lightning_fit.py --steps 12
"""

import argparse

import lightning
import torch
from torch import nn

import dpfunc as dp
from dpfunc.integrations.lightning import PrivacyCallback

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=12)
options = parser.parse_args()


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


module = Classifier()
dataset = torch.utils.data.TensorDataset(torch.randn(64, 20), torch.randint(3, (64,)))
engine = dp.PrivacyEngine(
    module.net,  # whose forward training_step calls
    sample_size=len(dataset),
    batch_size=16,
    target_epsilon=8.0,
    delta=1e-3,
    steps=options.steps,
    max_grad_norm=1.0,
    key=dp.key(),
)
callback = PrivacyCallback(engine)
trainer = lightning.Trainer(
    max_steps=options.steps,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, callback.loader(dataset))
print(f"{engine.steps_taken} steps, epsilon {engine.epsilon():.2f}")
