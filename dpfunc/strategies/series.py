"""Power series: the first column of a lower triangular Toeplitz matrix, and of its inverse.

The product of two such matrices is the product of their series, so that ``1 / c`` is the inverse.
"""

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def power_of_one_minus_x(exponent: float, count: int) -> Floats:
    """The first ``count`` coefficients of ``(1 - x)**exponent``.

    ``d_i = d_{i-1} (i - 1 - exponent) / i``. With an exponent of 1/2: 1, -1/2, -1/8, ...; with
    -1/2 those of the square root of the prefix sums: 1, 1/2, 3/8, ...

    >>> power_of_one_minus_x(-0.5, 4).tolist()
    [1.0, 0.5, 0.375, 0.3125]
    """
    index = np.arange(1, count)
    return np.concatenate([[1.0], np.cumprod((index - 1 - exponent) / index)])[:count]


def quotient(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator`` as power series, as many coefficients as the numerator has.

    >>> quotient(np.ones(3), np.array([1.0, 0.5])).tolist()
    [1.0, 0.5, 0.75]
    """
    result: Floats = scipy.signal.lfilter([1.0], denominator, numerator)
    return result


def product(left: Floats, right: Floats) -> Floats:
    """``left * right`` as power series, as many coefficients as ``right`` has."""
    result: Floats = scipy.signal.lfilter(left, [1.0], right)
    return result


def inverse_with_errors_below(coefficients: Floats, steps: int) -> Floats:
    """``1 / coefficients`` for ``coefficients = (1, -, -, ...)``: numbers that are not negative.

    ``c_t = sum_i (-d_i) c_{t-i}`` adds products of one sign, p - 1 of them: each is off by at most
    ``(p + 1) 2**-53`` of itself more than the ones before it, so that all are within
    ``steps (p + 1) 2**-53`` of themselves, up to terms of second order.
    """
    impulse = np.zeros(steps)
    impulse[0] = 1.0
    return quotient(impulse, coefficients)


def to_bits(coefficients: Floats, bits: int) -> Floats:
    """Rounded to multiples of ``2**-bits``."""
    unit = 2.0**-bits
    return np.round(coefficients / unit) * unit
