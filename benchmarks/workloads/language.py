"""Text: the two IMDb models of fast-dpsgd, a transformer, and GPT-2 with and without LoRA."""

import torch
from torch import Tensor, nn

from benchmarks.workloads.workload import Workload, classification, next_token


class _MeanEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10_004, 16)
        self.output = nn.Linear(16, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.embedding(tokens).mean(1))


def embedding(size: int = 256) -> Workload:
    """fast-dpsgd's IMDb embedding: 10,004 x 16, 256 tokens a sample."""
    tokens, labels = torch.randint(10_004, (size, 256)), torch.randint(2, (size,))
    return Workload(_MeanEmbedding(), tokens, labels, classification)


class _MeanState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10_004, 100)
        self.lstm = nn.LSTM(100, 100, batch_first=True)
        self.output = nn.Linear(100, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(tokens))[0].mean(1))


def lstm(size: int = 64) -> Workload:
    """fast-dpsgd's IMDb LSTM: 100-100, 256 tokens a sample."""
    tokens, labels = torch.randint(10_004, (size, 256)), torch.randint(2, (size,))
    return Workload(_MeanState(), tokens, labels, classification)


class _Transformer(nn.Module):
    """A pre-norm causal language model."""

    def __init__(self, width: int, depth: int, length: int, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 64, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, words)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        self.register_buffer("mask", mask)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        return self.output(self.norm(x))


def transformer(size: int = 32) -> Workload:
    """d=256, 4 layers, 128 tokens, 10,000 words."""
    model = _Transformer(256, 4, 128, 10_000)
    tokens, labels = torch.randint(10_000, (size, 128)), torch.randint(10_000, (size, 128))
    return Workload(model, tokens, labels, next_token)


class _Logits(nn.Module):
    """A Hugging Face language model as a function of its tokens alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens).logits


_GPT2_WORDS, _GPT2_LENGTH = 50_257, 128


def _gpt2_model() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": _GPT2_WORDS, "n_positions": _GPT2_LENGTH, "n_embd": 384, "n_layer": 6}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, n_head=6, **no_dropout, use_cache=False))


def _language_modelling(model: nn.Module, size: int) -> Workload:
    shape = (size, _GPT2_LENGTH)
    tokens, labels = torch.randint(_GPT2_WORDS, shape), torch.randint(_GPT2_WORDS, shape)
    return Workload(_Logits(model), tokens, labels, next_token)


def gpt2(size: int = 8) -> Workload:
    """Hugging Face's GPT-2 with random weights: d=384, 6 layers, 128 tokens, tied embeddings."""
    return _language_modelling(_gpt2_model(), size)


def gpt2_lora(size: int = 8) -> Workload:
    """The same with all but low-rank updates of rank 8 to its attention frozen, by peft."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True, lora_dropout=0.0)
    return _language_modelling(get_peft_model(_gpt2_model(), config), size)
