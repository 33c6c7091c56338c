"""What is trained and how: a probe, LoRA and full fine-tuning, with settings tuned on other data.

LoRA (Hu et al. 2021, arXiv:2106.09685) trains two thin factors beside every linear map of the
encoder. Fine-tuning starts from a head that was trained on frozen features (Kumar et al. 2022,
arXiv:2202.10054); with privacy that head has to be paid for from the same budget.
"""

from dataclasses import dataclass

from torch import nn

from benchmarks.wordnet.training import Phase

PROBE = Phase(steps=150, expected_batch_size=5_000, max_norm=2.0, head_rate=0.01)
RANK = 8


@dataclass(frozen=True)
class Method:
    """A head trained within ``head_share`` of the target epsilon, then ``tuning`` with the rest."""

    head: Phase
    tuning: Phase | None = None
    head_share: float = 1.0


METHODS = {
    "probe": Method(PROBE),
    "lora": Method(
        PROBE,
        Phase(steps=18, expected_batch_size=768, max_norm=1.0, head_rate=2e-3, body_rate=3e-3),
        head_share=0.5,
    ),
    "full": Method(
        PROBE,
        Phase(steps=10, expected_batch_size=1_024, max_norm=1.0, head_rate=2e-3, body_rate=5e-4),
        head_share=0.5,
    ),
}


def adapted(encoder: nn.Module, method: str) -> nn.Module:
    """The encoder with what ``method`` adds to it; only what it trains requires gradients."""
    if method == "probe":
        return encoder.requires_grad_(False)
    if method == "full":
        return encoder.requires_grad_(True)
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install "dpfunc[bench]"') from error
    maps = ["query", "key", "value", "dense"]
    return get_peft_model(encoder, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=maps))
