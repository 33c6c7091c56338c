"""The running statistics of a BatchNorm, folded into the scale and shift of a GroupNorm."""

from typing import NamedTuple

from torch import Tensor


class Affine(NamedTuple):
    """What a normalised channel is multiplied by, and what is added to it; both ``[C]``."""

    scale: Tensor
    shift: Tensor


def folded(affine: Affine, mean: Tensor, var: Tensor, *, groups: int, eps: float) -> Affine:
    """The affine map with which GroupNorm does to a typical sample what BatchNorm did in eval mode.

    BatchNorm in eval mode maps a value x of channel c to

        w_c (x - mean_c) / s_c + b_c,            s_c^2 = var_c + eps.

    GroupNorm with the scale w' and the shift b' maps it to ``w'_c (x - m) / s + b'_c``, where m and
    ``s^2 - eps`` are the mean and the variance of the sample's own values in the group of c. Take
    a sample in which these are the ones that the running statistics, pooled over the group, predict
    (every channel has as many values as the next):

        mean_g = average of mean_c,              var_g = average of (var_c + mean_c^2) - mean_g^2,

    and ``s_g^2 = var_g + eps``. Both maps are affine in x, and equal for all x where

        w'_c = w_c s_g / s_c,                    b'_c = b_c + w_c (mean_g - mean_c) / s_c.

    For other samples the difference is ``w_c / s_c`` times ``(x - mean_g) - (x - m) s_g / s``: it
    grows with the distance of a sample's statistics from the pooled ones, most for channels that
    vary less than their group does. Computed in float64; the result has the dtypes of ``affine``.
    """
    weight, bias, mean_c, var_c = (
        part.double().reshape(groups, -1) for part in (affine.scale, affine.shift, mean, var)
    )
    mean_g = mean_c.mean(1, keepdim=True)
    var_g = (var_c + (mean_c - mean_g).square()).mean(1, keepdim=True)
    in_channel, in_group = (var_c + eps).sqrt(), (var_g + eps).sqrt()
    scale = weight * in_group / in_channel
    shift = bias + weight * (mean_g - mean_c) / in_channel
    return Affine(scale.flatten().to(affine.scale), shift.flatten().to(affine.shift))
