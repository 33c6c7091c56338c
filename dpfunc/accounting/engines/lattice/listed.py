"""Pairs whose losses are a list: no cell is needed but around each of them."""

import numpy as np

from dpfunc.accounting.pairs.combine import Either, Sampled, Symmetric
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.integer_mixture import IntegerMixture
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture
from dpfunc.accounting.pairs.privacy_loss import Array, Pair

_MOST = 8000  # losses: more are as good as a density
_ALL = 2**40


def listed_losses(pair: Pair, tail: float) -> Array | None:
    """The finite losses, but for such as have no more than about the tail; or None."""
    if isinstance(pair, FiniteLoss):
        return pair.nodes(0, 0.0)
    if not _is_list(pair):
        return None
    losses = pair.nodes(_ALL, tail)
    return losses if len(losses) <= _MOST else None


def _is_list(pair: Pair) -> bool:
    match pair:
        case FiniteLoss() | IntegerMixture():
            return True
        case Either(parts=parts):
            return all(_is_list(part) for _, part in parts)
        case Sampled(pair=of) | Symmetric(pair=of):
            return _is_list(of)
    return False


def ends_of_parts(pair: Pair, tail: float) -> Array:
    """Losses where parts of the pair have atoms beside a density: sums of sampled Laplace noise.

    Not of parts that have no more than the tail: their losses may be of another size altogether.
    """
    match pair:
        case LaplaceMixture():
            return pair.nodes(2, 0.0)
        case Either(parts=parts):
            each = [ends_of_parts(of, tail / w) for w, of in parts if w * len(parts) > tail]
            return np.unique(np.concatenate([np.zeros(0), *each]))
        case Sampled(pair=of):
            return pair.mixed(ends_of_parts(of, tail))
        case Symmetric(pair=of):
            ends = ends_of_parts(of, tail)
            above = ends[ends > 0]
            return np.concatenate([-above[::-1], above])
    return np.zeros(0)
