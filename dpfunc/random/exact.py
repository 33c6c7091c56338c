"""Whole numbers decided exactly: ``floor(f(U))`` of uniform real numbers U.

A uniform real number is an endless stream of random bits, of which the fast code reads the first 64
and evaluates f in float64, with a bound on its error. Nearly always the bound decides the whole
number. Where it does not, the functions here read more bits and compute with intervals until it is
decided, as correctly rounded libraries of elementary functions do. No draw is cut off or rejected:
the result has the distribution of ``floor(f(U))`` itself, given random bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpfunc.random.keys import Key, bits, fold_in

_WORD = 64
_FIRST_WORDS = 2


@dataclass(frozen=True)
class LazyUniform:
    """The uniform on ``[0, 1)`` that begins with the ``width`` bits of ``leading``.

    The bits after those come from ``key`` as far as they are asked for.
    """

    leading: int
    width: int
    key: Key

    def interval(self, context: Any, words: int) -> Any:
        """Where it lies, as far as ``words`` words after the leading bits tell."""
        lower = self.leading
        for word in bits(self.key, words).tolist():
            lower = lower << _WORD | (word % 2**_WORD)
        return context.mpf([lower, lower + 1]) / 2 ** (self.width + _WORD * words)


def further_key(key: Key, index: int) -> Key:
    """The key of the bits that item ``index`` of a stream needs beyond its word."""
    return fold_in(key, "further bits", index)


def exact_floor(function: Callable[..., Any], *uniforms: LazyUniform) -> int:
    """``floor(function(context, *intervals))``, with as many bits as it takes.

    ``function`` computes with the interval arithmetic of mpmath in ``context``. It ends with
    probability one: an open result stays open with half the probability for each bit read.
    """
    from mpmath.ctx_iv import MPIntervalContext  # noqa: PLC0415  # slow to load, seldom asked

    words = _FIRST_WORDS
    while True:
        context = MPIntervalContext()  # one of its own: the precision of mpmath.iv is the caller's
        context.prec = _WORD * (words + 4)
        value = function(context, *(uniform.interval(context, words) for uniform in uniforms))
        if -context.inf < value < context.inf:
            low, high = _floor(value.a), _floor(value.b)
            if low == high:
                return low
        words *= 2


def _floor(point: Any) -> int:
    whole = int(point)  # towards zero
    return whole - 1 if point < whole else whole
