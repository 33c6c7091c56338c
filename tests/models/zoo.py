"""Models of Hugging Face transformers, unmodified, with random weights in tiny configurations."""

import torch

from tests.models.case import Case
from tests.models.language import LANGUAGE
from tests.models.other_media import OTHER_MEDIA

CASES = {**LANGUAGE, **OTHER_MEDIA}


def make(name: str) -> Case:
    """The case of this name, in float64, with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[name].make()
