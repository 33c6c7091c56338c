"""What is trained and how: a probe, LoRA and full fine-tuning, with settings tuned on other data.

LoRA (Hu et al. 2021, arXiv:2106.09685) trains two thin factors beside every linear map of the
encoder. Fine-tuning starts from a head that was trained on frozen features (Kumar et al. 2022,
arXiv:2202.10054); with privacy that head has to be paid for from the same budget.
"""

from dataclasses import dataclass, replace

from torch import nn

from benchmarks.wordnet.training import Phase

RANK = 8
HEAD_SHARE = 0.5  # of the target epsilon, for the head of a method that goes on to the encoder
PROBE = Phase(steps=150, expected_batch_size=5_000, max_norm=2.0, head_rate=0.01)


@dataclass(frozen=True)
class Method:
    """A head trained on frozen features, then ``tuning`` of head and encoder."""

    head: Phase
    tuning: Phase | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (self.head,) if self.tuning is None else (self.head, self.tuning)

    def with_steps(self, steps: int | None) -> "Method":
        """The same with another number of steps of ``tuning``, where there is one."""
        if steps is None or self.tuning is None:
            return self
        return replace(self, tuning=replace(self.tuning, steps=steps))


METHODS = {
    "probe": Method(PROBE),
    "lora": Method(PROBE, Phase(18, 768, max_norm=1.0, head_rate=2e-3, body_rate=3e-3)),
    "full": Method(PROBE, Phase(10, 1_024, max_norm=1.0, head_rate=2e-3, body_rate=5e-4)),
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
