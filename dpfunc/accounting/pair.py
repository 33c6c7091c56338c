"""The dominating pair of one Poisson-subsampled Gaussian release, on the line.

P = (1-q) N(0, sigma**2) + q N(1, sigma**2) is the output with the record, Q = N(0, sigma**2) the
output without it, q the sample rate, in units of the L2 sensitivity. (P, Q) dominates every
neighbouring pair in the direction of removing the record and (Q, P) in that of adding it: Zhu, Dong
and Wang 2022 (arXiv:2106.08567), on Poisson sampling. The accountant integrates these functions,
and the privacy laws compare what a real training step released with them.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


def log_density_ratio(x: Array, noise_multiplier: float, sample_rate: float) -> Array:
    """The privacy loss ``log dP/dQ`` at ``x``: ``log(1 - q + q exp((2x - 1) / (2 sigma**2)))``."""
    u = (2 * x - 1) / (2 * noise_multiplier**2)
    # log1p keeps the digits of a loss near 0; far out, the exponential would overflow.
    near = np.log1p(sample_rate * np.expm1(np.minimum(u, 30.0)))
    far = np.logaddexp(np.log1p(-sample_rate), np.log(sample_rate) + u)
    return np.asarray(np.where(u < 30.0, near, far))


def cdf_with(x: Array, noise_multiplier: float, sample_rate: float) -> Array:
    """The distribution function of P."""
    included = ndtr((x - 1) / noise_multiplier)
    return np.asarray((1 - sample_rate) * ndtr(x / noise_multiplier) + sample_rate * included)


def cdf_without(x: Array, noise_multiplier: float) -> Array:
    """The distribution function of Q."""
    return np.asarray(ndtr(x / noise_multiplier))
