"""Tiny models with random weights, data for them, and the loop that a trainer stands for."""

import torch
from torch import nn
from torch.utils.data import default_collate
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

import dpfunc as dp

SIZE = 24
KEY = dp.key(3)


class Classifier(nn.Module):
    """Small, with the signature of a model of transformers, and a loss of its own."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)
        )

    def forward(self, x, labels=None):
        logits = self.layers(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if loss is not None else {"logits": logits}


def classified(size=SIZE):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(3, generator=generator), "labels": k % 2} for k in range(size)]


def bert(dropout=0.0):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForSequenceClassification(config)


def sentences(size=SIZE):
    """Padded to one length, with the mask that says so, and a class each."""
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input_ids": torch.randint(50, (7,), generator=generator),
            "attention_mask": (torch.arange(7) < 7 - k % 3).long(),
            "labels": k % 2,
        }
        for k in range(size)
    ]


def gpt2(dropout=0.0):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=8,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return GPT2LMHeadModel(config)


def texts(size=SIZE, *, padded):
    """Tokens to predict; with padding, whose label is -100, samples have fewer of them."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for k in range(size):
        tokens = torch.randint(50, (7,), generator=generator)
        labels = torch.where(torch.arange(7) < 7 - k % 3 * padded, tokens, -100)
        found.append({"input_ids": tokens, "labels": labels})
    return found


def engine_for(model, *, size=SIZE, batch_size=6, steps=4, noise_multiplier=0.0, **options):
    return dp.PrivacyEngine(
        model,
        sample_size=size,
        batch_size=batch_size,
        steps=steps,
        noise_multiplier=noise_multiplier,
        **({"delta": 1e-3, "key": KEY, "max_grad_norm": 0.5} | options),
    )


def trained_in_a_loop(model, data, loss_of, *, steps=4, lr=0.5, **options):
    """The parameters after an ordinary loop with ``engine.loader``."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    engine = engine_for(model, steps=steps, **options).attach(optimizer)
    model.train()
    for batch in engine.loader(data, collate_fn=default_collate):
        loss_of(model, batch).backward()
        optimizer.step()
        if engine.remaining_steps() < 1:
            break
    engine.detach()
    return parameters(model)


def parameters(model):
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def assert_close(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6, msg=name)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
