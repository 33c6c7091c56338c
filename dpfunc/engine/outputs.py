"""What a model gives back, as a loss: where the samples are in it, and one number for each."""

import math
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.nested import replace_tensors
from dpfunc.persample.whole_batch.places import Place, to_rows


def output_places(two: list[Tensor], three: list[Tensor]) -> list[Place | None]:
    """Where the samples are in the outputs for two samples and for three."""
    places: list[Place | None] = []
    for small, large in zip(two, three, strict=True):
        axes = [i for i, (n, m) in enumerate(zip(small.shape, large.shape, strict=True)) if n != m]
        if len(axes) > 1:
            raise RuntimeError(
                "PrivacyEngine: expected one axis of samples in each output of the model but two "
                f"grow with the batch, of shape {tuple(large.shape)} for 3 samples; a model may "
                "not compare its samples."
            )
        places.append(Place(axes[0], small.shape[axes[0]] // 2) if axes else None)
    if not any(p is not None and t.is_floating_point() for p, t in zip(places, two, strict=True)):
        raise RuntimeError(
            "PrivacyEngine: expected outputs of each sample from the model but got "
            f"{[tuple(t.shape) for t in three] or 'no tensor'} for 3 samples; return the logits "
            "beside the loss, or compute the loss outside of the model."
        )
    return places


def combined_outputs(outputs: list[Tensor], places: list[Place | None], size: int) -> Tensor:
    """One number a sample, ``[B]``: its outputs with fixed weights of many sizes.

    Their root mean square is added, without a gradient: where millions of outputs cancel, it is
    what rounding is to be compared with.
    """
    total = torch.zeros(size, device=outputs[0].device)
    for tensor, place in zip(outputs, places, strict=True):
        if place is not None and tensor.is_floating_point():
            rows = to_rows(tensor, place, size).reshape(size, -1).to(total.dtype)
            weights = torch.cos(1.7 * torch.arange(rows.shape[1], device=rows.device) + 0.4)
            sums = rows @ weights.to(total.dtype) / math.sqrt(max(1, rows.shape[1]))
            total = total + sums + rows.detach().square().mean(1).sqrt()
    return total


def structure_of(call: Any) -> str:
    """What a call is apart from its tensors: names, numbers, and how many axes there are."""

    def plain(part: Any) -> str:
        return repr(part) if isinstance(part, str | int | float | None) else type(part).__name__

    return repr(replace_tensors(call, lambda t: (t.dim(), str(t.dtype)), other=plain))
