"""The Trainer of Hugging Face with differential privacy.

A tiny BERT with random weights stands in for a pretrained one, and random tokens for texts.

python examples/trainer.py --steps 12
"""

import argparse

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import dpfunc as dp
from dpfunc.integrations.huggingface import PrivacyCallback

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=12)
options = parser.parse_args()

config = BertConfig(
    vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)
model = BertForSequenceClassification(config)
dataset = [
    {"input_ids": torch.randint(100, (7,)), "attention_mask": torch.ones(7).long(), "labels": k % 2}
    for k in range(64)
]
engine = dp.PrivacyEngine(
    model,
    sample_size=len(dataset),
    batch_size=16,
    target_epsilon=8.0,
    delta=1e-3,
    steps=options.steps,
    max_grad_norm=1.0,
    key=dp.key(),
)
callback = PrivacyCallback(engine)
trainer = Trainer(
    model,
    TrainingArguments(
        max_steps=options.steps,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **callback.arguments,
    ),
    train_dataset=callback.dataset(dataset),
    data_collator=callback.collator(),
    callbacks=[callback],
)
trainer.train()
print(f"{engine.steps_taken} steps, epsilon {engine.epsilon():.2f}")
