"""Models of Hugging Face transformers, unmodified, with random weights in tiny configurations."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.types import Tensors

hf = pytest.importorskip("transformers", reason='needs transformers: pip install ".[test]"')

WORDS, LENGTH, SAMPLES = 37, 6, 3

_BERT_LIKE = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
_VISION = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _minus_log_likelihood(output: dict[str, Tensor]) -> Tensor:
    """``[B]``: how unlikely the first class is, over all positions."""
    logits = output["logits"]
    return -logits.log_softmax(-1)[..., 0].reshape(len(logits), -1).mean(1)


def _disagreement(output: dict[str, Tensor]) -> Tensor:
    return -(output["text_embeds"] * output["image_embeds"]).sum(-1)


def _size_of_embedding(output: dict[str, Tensor]) -> Tensor:
    return output["text_embeds"].square().sum(-1)


class Case(NamedTuple):
    """A model, a batch of keyword arguments for it, each ``[B, ...]``, and a loss of its output.

    ``by_vmap``: whether vmap can run it, or else only the whole batch.
    """

    model: nn.Module
    batch: Tensors
    by_vmap: bool
    score: Callable[[dict[str, Tensor]], Tensor] = _minus_log_likelihood

    def losses(self, params: Tensors, batch: Tensors) -> Tensor:
        """The losses ``[B]`` of a batch."""
        return self.score(functional_call(self.model, params, (), batch))

    def loss(self, params: Tensors, sample: Tensors) -> Tensor:
        """The loss of one sample."""
        return self.losses(params, {name: part[None] for name, part in sample.items()})[0]


def _numbers(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


def _tokens() -> Tensor:
    return (_numbers(1, SAMPLES, LENGTH).abs() * 100).long() % (WORDS - 3) + 2


def _text(with_mask: bool = True) -> Tensors:
    """Tokens; and which of them are words, the rest padding."""
    lengths = torch.tensor([4, LENGTH, 2])
    mask = (torch.arange(LENGTH) < lengths.unsqueeze(1)).long()
    return {"input_ids": _tokens()} | ({"attention_mask": mask} if with_mask else {})


def _images() -> Tensors:
    return {"pixel_values": _numbers(2, SAMPLES, 3, 8, 8)}


def _gpt2(with_mask: bool) -> Case:
    config = hf.GPT2Config(
        vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return Case(hf.GPT2LMHeadModel(config), _text(with_mask), by_vmap=not with_mask)


def _bert() -> Case:
    return Case(hf.BertForMaskedLM(hf.BertConfig(**_BERT_LIKE, **_NO_DROPOUT)), _text(), False)


def _distilbert() -> Case:
    config = hf.DistilBertConfig(
        vocab_size=WORDS, max_position_embeddings=16, n_layers=2, n_heads=2, dim=16, hidden_dim=24,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
    )  # fmt: skip
    return Case(hf.DistilBertForSequenceClassification(config), _text(), False)


def _roberta() -> Case:
    config = hf.RobertaConfig(**_BERT_LIKE, **_NO_DROPOUT)
    return Case(hf.RobertaForSequenceClassification(config), _text(), False)


def _decoder(name: str, by_vmap: bool, with_mask: bool = True, **options: int) -> Case:
    config = getattr(hf, f"{name}Config")(**_BERT_LIKE, num_key_value_heads=1, **options)
    return Case(getattr(hf, f"{name}ForCausalLM")(config), _text(with_mask), by_vmap)


def _t5(by_vmap: bool, **batch: Tensor) -> Case:
    config = hf.T5Config(
        vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    batch = {"input_ids": _tokens(), "decoder_input_ids": _tokens().flip(1), **batch}
    return Case(hf.T5ForConditionalGeneration(config), batch, by_vmap)


def _t5_with_masks() -> Case:
    mask = _text()["attention_mask"]
    return _t5(False, attention_mask=mask, decoder_attention_mask=mask)


def _vit() -> Case:
    config = hf.ViTConfig(**_VISION, **_NO_DROPOUT, num_labels=5)
    return Case(hf.ViTForImageClassification(config), _images(), True)


def _clip_text() -> dict[str, int]:
    return {**_BERT_LIKE, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": WORDS - 1}


def _clip() -> Case:
    config = hf.CLIPConfig(text_config=_clip_text(), vision_config=_VISION, projection_dim=8)
    batch = _text(with_mask=False) | _images()
    return Case(hf.CLIPModel(config), batch, True, _disagreement)


def _clip_text_tower() -> Case:
    model = hf.CLIPTextModelWithProjection(hf.CLIPTextConfig(**_clip_text()))
    return Case(model, _text(), False, _size_of_embedding)


def _whisper() -> Case:
    config = hf.WhisperConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_ffn_dim=24, num_mel_bins=5, max_source_positions=8, max_target_positions=8,
        dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    batch = {"input_features": _numbers(3, SAMPLES, 5, 16), "decoder_input_ids": _tokens()}
    return Case(hf.WhisperForConditionalGeneration(config), batch, True)


def _mamba() -> Case:
    config = hf.MambaConfig(
        vocab_size=WORDS, hidden_size=16, state_size=4, num_hidden_layers=2, use_mambapy=False
    )
    return Case(hf.MambaForCausalLM(config), _text(), True)


CASES: dict[str, Callable[[], Case]] = {
    "GPT-2": lambda: _gpt2(with_mask=False),
    "GPT-2, masked": lambda: _gpt2(with_mask=True),
    "BERT, masked": _bert,
    "DistilBERT, masked": _distilbert,
    "RoBERTa, masked": _roberta,
    "Llama": lambda: _decoder("Llama", True, with_mask=False),
    "Llama, masked": lambda: _decoder("Llama", False),
    "Mistral, masked": lambda: _decoder("Mistral", True, sliding_window=4),
    "Qwen2, masked": lambda: _decoder("Qwen2", False),
    "Gemma, masked": lambda: _decoder("Gemma", False, head_dim=8),
    "T5": lambda: _t5(True),
    "T5, masked": _t5_with_masks,
    "ViT": _vit,
    "CLIP": _clip,
    "CLIP text tower, masked": _clip_text_tower,
    "Whisper": _whisper,
    "Mamba, masked": _mamba,
}


def make(name: str) -> Case:
    """The case of this name, in float64, with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        case = CASES[name]()
    return case._replace(model=case.model.double())
