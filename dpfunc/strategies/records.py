"""What a strategy is: the matrix C of a stream of noise, as plain numbers.

A stream of sums ``S_1, S_2, ...`` is released as ``S + C^-1 Z`` with independent normals Z, C
lower triangular. So ``C (S + C^-1 Z) = C S + Z``: the Gaussian mechanism on the sums that C makes.
What is wanted is sums over steps, ``A S`` (`workloads`): their noise is ``A C^-1 Z``, and is small
where the noise of later steps takes back that of earlier ones.

The numbers of a record are the matrix exactly, as they stand: sensitivity, noise and event read the
same ones.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy

from dpfunc.checks import is_count, is_real, require
from dpfunc.strategies.series import Floats, inverse_with_errors_below

_MOST_STEPS = 2**24


@dataclass(frozen=True)
class Toeplitz:
    """C is lower triangular and Toeplitz: ``C[t, s] = coefficients[t - s]``, 0 beyond the last.

    The first coefficient is 1. With b of them the matrix has b bands ("BandMF", Choquette-Choo et
    al. 2023, arXiv:2306.08153; Toeplitz: McKenna 2024, arXiv:2405.15913).
    """

    steps: int
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_steps("Toeplitz", self.steps)
        _require_numbers("Toeplitz", "coefficients", self.coefficients)
        require(
            len(self.coefficients) <= self.steps and self.coefficients[0] == 1,
            "Toeplitz",
            f"at most {self.steps} coefficients, the first of them 1",
            f"{len(self.coefficients)}, the first of them {self.coefficients[0]}",
            "take as many bands as there are steps, or fewer, and divide by the first",
        )

    @property
    def bands(self) -> int:
        return len(self.coefficients)

    def column(self) -> Floats:
        """The first column of C: ``[steps]``."""
        column = np.zeros(self.steps)
        column[: self.bands] = self.coefficients
        return column


@dataclass(frozen=True)
class InverseToeplitz:
    """The inverse of C is banded and Toeplitz: ``(C^-1)[t, s] = coefficients[t - s]``.

    The first coefficient is 1, the others are from -1 to 0 and add up to more than -1: C then has
    no negative entry, and none above 1. Two coefficients: DP-lambda-CGD (arXiv:2601.22334); those
    of ``(1 - x)**(1/2)``: BISR (arXiv:2505.12128); of another power: gamma-BIFR
    (arXiv:2605.18379).
    The noise of a step is a sum of the last few normals, which can be drawn again: no memory.
    """

    steps: int
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_steps("InverseToeplitz", self.steps)
        _require_numbers("InverseToeplitz", "coefficients", self.coefficients)
        first, *rest = self.coefficients
        require(
            first == 1 and all(-1 <= d <= 0 for d in rest) and math.fsum(rest) > -1,
            "InverseToeplitz",
            "coefficients 1, d_1, d_2, ... with no d above 0, and a sum above 0",
            self.coefficients,
            "use dpfunc.correlated.fractional, square_root_inverse or lambda_cgd",
        )
        require(
            len(self.coefficients) <= self.steps,
            "InverseToeplitz",
            f"at most {self.steps} coefficients",
            len(self.coefficients),
            "take fewer bands than there are steps",
        )

    @property
    def bands(self) -> int | None:
        """Of C, not of its inverse: 1 for C = I, None where all of it is filled."""
        return 1 if not any(self.coefficients[1:]) else None

    def column(self) -> Floats:
        """The first column of C, ``[steps]``: off by ``steps (bands + 1) 2**-53`` of itself."""
        return inverse_with_errors_below(np.array(self.coefficients), self.steps)


@dataclass(frozen=True)
class Buffered:
    """C is Toeplitz with ``c_0 = 1``, ``c_i = sum_j weights[j] * decays[j]**(i - 1)``.

    "BLT", buffered linear Toeplitz (McMahan, Xu and Zhang 2024, arXiv:2404.16706; for several
    participations arXiv:2408.08868): the noise needs as many buffers as there are decays. Decays
    lie strictly between 0 and 1, weights are positive and add up to at most 1: c does not increase.
    """

    steps: int
    decays: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_steps("Buffered", self.steps)
        _require_numbers("Buffered", "decays", self.decays)
        _require_numbers("Buffered", "weights", self.weights)
        require(
            len(self.decays) == len(self.weights)
            and all(0 < theta < 1 for theta in self.decays)
            and all(omega > 0 for omega in self.weights)
            and math.fsum(self.weights) <= 1,
            "Buffered",
            "decays between 0 and 1, and as many weights > 0 that add up to at most 1",
            (self.decays, self.weights),
            "use dpfunc.correlated.buffered",
        )

    @property
    def bands(self) -> None:
        return None

    def column(self) -> Floats:
        """The first column of C, ``[steps]``: off by ``(steps + buffers) 2**-53`` of itself."""
        column = np.zeros(self.steps)
        column[0] = 1.0
        for theta, omega in zip(self.decays, self.weights, strict=True):
            powers = np.full(self.steps - 1, theta)
            powers[:1] = omega
            column[1:] += np.cumprod(powers)
        return column


@dataclass(frozen=True)
class Dense:
    """Any lower triangular C with a positive diagonal: ``rows[t]`` has ``t + 1`` entries.

    For research: the noise of a step needs that of all steps before it.
    """

    rows: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        _require_steps("Dense", len(self.rows))
        for t, row in enumerate(self.rows):
            _require_numbers("Dense", "entries in each row", row)
            require(
                len(row) == t + 1 and row[t] > 0,
                "Dense",
                f"{t + 1} entries in row {t}, the last of them > 0",
                f"{len(row)}, the last of them {row[-1]}",
                "list the rows of a lower triangular matrix",
            )

    @property
    def steps(self) -> int:
        return len(self.rows)

    @property
    def bands(self) -> int:
        return max(t - s + 1 for t, row in enumerate(self.rows) for s, c in enumerate(row) if c)


Strategy = Toeplitz | InverseToeplitz | Buffered | Dense


def matrix(strategy: Strategy) -> Floats:
    """C itself: ``[steps, steps]``, row t for step t.

    >>> matrix(Toeplitz(3, (1.0, 0.5))).tolist()
    [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.5, 1.0]]
    """
    if isinstance(strategy, Dense):
        full = np.zeros((strategy.steps, strategy.steps))
        for t, row in enumerate(strategy.rows):
            full[t, : t + 1] = row
        return full
    column = strategy.column()
    return np.tril(scipy.linalg.toeplitz(column))


def require_strategy(subject: str, strategy: object) -> None:
    """TypeError unless it is one."""
    require(
        isinstance(strategy, Strategy),
        subject,
        "a strategy",
        type(strategy).__name__,
        "make one with dpfunc.correlated.banded(steps=, bands=) or one of the others there",
        error=TypeError,
    )


def _require_steps(subject: str, steps: int) -> None:
    require(
        is_count(steps) and 1 <= steps <= _MOST_STEPS,
        subject,
        f"an int steps from 1 to {_MOST_STEPS}",
        steps,
        "pass how many steps the run takes",
    )


def _require_numbers(subject: str, name: str, values: tuple[float, ...]) -> None:
    require(
        isinstance(values, tuple)
        and len(values) > 0
        and all(is_real(value) and abs(value) < math.inf for value in values),
        subject,
        f"a tuple of finite numbers as {name}",
        values,
        "pass Python floats",
    )
