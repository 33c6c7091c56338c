"""LoRA adapters of a language model with differential privacy.

A small GPT-2 with random weights stands in for a pretrained one, and random tokens for texts.

python examples/lora.py --steps 20
"""

import argparse

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

import dpfunc as dp
from dpfunc.integrations.token_loss import next_token_losses

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=20)
options = parser.parse_args()

config = GPT2Config(
    vocab_size=200, n_positions=16, n_embd=32, n_layer=2, n_head=2,
    bos_token_id=None, eos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)  # fmt: skip
texts = torch.randint(200, (256, 16))
model = get_peft_model(
    GPT2LMHeadModel(config), LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
engine = dp.PrivacyEngine(
    model,
    sample_size=len(texts),
    batch_size=32,
    target_epsilon=8.0,
    delta=1e-4,
    steps=options.steps,
    max_grad_norm=0.1,
    key=dp.key(),
).attach(optimizer)

batches = engine.loader(torch.utils.data.TensorDataset(texts))
while engine.remaining_steps() > 0:
    for (tokens,) in batches:
        optimizer.zero_grad()
        outputs = model(input_ids=tokens)
        next_token_losses(outputs, tokens).mean().backward()  # one term for each text
        optimizer.step()
        if engine.remaining_steps() < 1:
            break
print(f"{engine.steps_taken} steps, epsilon {engine.epsilon():.2f}")
engine.detach()
adapters = {name: param for name, param in model.named_parameters() if param.requires_grad}
print(f"{sum(param.numel() for param in adapters.values())} private numbers to publish")
