"""The workloads of the step benchmark on a device, and two of the size that a GPU is bought for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.device.settings import Settings
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import Workload, classification, next_token


class _Bfloat16(nn.Module):
    """A model under autocast, with outputs in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            logits: Tensor = self.model(inputs).logits
        return logits.float()


def gpt2_small(size: int = 32, length: int = 512) -> Workload:
    """GPT-2 small (124M parameters, tied embeddings) with random weights, under bfloat16."""
    from transformers import GPT2Config, GPT2LMHeadModel

    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(n_positions=length, **no_dropout, use_cache=False))
    tokens, labels = torch.randint(50_257, (2, size, length))
    return Workload(_Bfloat16(model), tokens, labels, next_token)


def vit_b_16(size: int = 64) -> Workload:
    """ViT-B/16 (86M parameters) with random weights on images of 224 x 224, under bfloat16."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(num_labels=1000, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    images = torch.randn(size, 3, 224, 224)
    model = ViTForImageClassification(config)
    return Workload(_Bfloat16(model), images, torch.randint(1000, (size,)), classification)


LARGE: dict[str, Callable[[], Workload]] = {"gpt2_small": gpt2_small, "vit_b_16": vit_b_16}


def on_device(name: str, settings: Settings) -> Workload:
    """A fresh workload, whose batch is of four samples in a tiny run."""
    work = {**WORKLOADS, **LARGE}[name]()._replace(name=name)
    few = slice(4 if settings.tiny else None)
    return work._replace(
        model=work.model.to(settings.device),
        inputs=work.inputs[few].to(settings.device),
        labels=work.labels[few].to(settings.device),
    )
