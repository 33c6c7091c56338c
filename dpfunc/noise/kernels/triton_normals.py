"""Pairs of normals in Triton: in float32 as numba makes them, and their corners in float64.

`polar` is `dpfunc.noise.kernels.numba_kernel.polar` operation by operation. Each operation rounds
once, and correctly, so both give the same bits, and one scan of all words serves both. The kernel
is compiled without flushing to zero and without fusing what is not written as `tl.fma`.
"""

import math
from types import SimpleNamespace

from dpfunc.noise.kernels.deciding import ERROR, FINE_BITS
from dpfunc.random.chacha_triton import jit

try:
    import triton.language as tl
except ImportError:  # it comes with the CUDA builds of torch
    tl = SimpleNamespace(constexpr=float)

# The polynomials of `numba_kernel.py`: of the logarithm, of the sine and of the cosine.
_L0, _L1, _L2, _L3 = map(
    tl.constexpr,
    (0.3333390951156616, -0.2500133812427521, 0.19963063299655914, -0.1657758504152298),
)
_L4, _L5, _L6 = map(tl.constexpr, (0.14914774894714355, -0.14267483353614807, 0.08700409531593323))
_S0, _S1, _S2, _S3 = map(
    tl.constexpr,
    (1.5707963705062866, -0.6459634900093079, 0.07968022674322128, -0.004602177068591118),
)
_C0, _C1, _C2, _C3 = map(
    tl.constexpr,
    (-1.2337005138397217, 0.25366923213005066, -0.02086028829216957, 0.0009040216682478786),
)
_LOG_2 = tl.constexpr(0.6931471824645996)  # the float32 next to log 2
_ROOT_HALF = tl.constexpr(0x3F3504F3)  # the bits of sqrt(1/2)
_UNIT = tl.constexpr(2.0**-30)
_FINE, _QUARTER = tl.constexpr(2.0**-FINE_BITS), tl.constexpr(math.pi / 2 * 2.0**-FINE_BITS)
_ERROR, _INFINITY = tl.constexpr(ERROR), tl.constexpr(math.inf)


@jit
def polar(radius_word, angle_word):  # type: ignore[no-untyped-def]  # Triton reads the annotations
    """The square of the radius, the radius, and cosine and sine with their signs; float32."""
    above = ((radius_word >> 1).to(tl.int32, bitcast=True).to(tl.float32) + 0.5).to(
        tl.int32, bitcast=True
    )
    shifted = above - _ROOT_HALF
    exponent = (shifted >> 23).to(tl.float32) - 31.0
    z = ((shifted & 0x7FFFFF) + _ROOT_HALF).to(tl.float32, bitcast=True) - 1.0
    p = tl.fma(tl.fma(tl.fma(_L6, z, _L5), z, _L4), z, _L3)
    p = tl.fma(tl.fma(tl.fma(p, z, _L2), z, _L1), z, _L0)
    squared = z * z
    log = tl.fma(exponent, _LOG_2, tl.fma(squared * z, p, tl.fma(squared, -0.5, z)))
    square = log * -2.0
    radius = tl.sqrt_rn(square)
    # Beyond an eighth of a turn the angle is taken from the other end, and the waves change places.
    beyond = ((angle_word >> 29) & 1) == 1
    eighth = angle_word & 0x1FFFFFFF
    eighth = tl.where(beyond, eighth ^ 0x1FFFFFFF, eighth)
    x = (eighth.to(tl.int32, bitcast=True).to(tl.float32) + 0.5) * _UNIT
    y = x * x
    sine = x * tl.fma(tl.fma(tl.fma(_S3, y, _S2), y, _S1), y, _S0)
    cosine = tl.fma(y, tl.fma(tl.fma(tl.fma(_C3, y, _C2), y, _C1), y, _C0), 1.0)
    return (
        square,
        radius,
        _signed(tl.where(beyond, sine, cosine), angle_word),
        _signed(tl.where(beyond, cosine, sine), angle_word << 1),
    )


@jit
def _signed(wave, word):  # type: ignore[no-untyped-def]
    """A wave that is not negative, with the sign that is the highest bit of a word."""
    bits = wave.to(tl.uint32, bitcast=True) ^ (word & 0x80000000)
    return bits.to(tl.float32, bitcast=True)


@jit
def nearest(x):  # type: ignore[no-untyped-def]
    """A nearest whole number; x less it is exact. NaN and infinity stay what they are."""
    whole = tl.floor(tl.abs(x))
    whole = tl.where(tl.abs(x) - whole >= 0.5, whole + 1.0, whole)
    return tl.where(x < 0.0, -whole, whole)


@jit
def offset_of(v, whole):  # type: ignore[no-untyped-def]
    """``v - whole`` in float64, and 0 where v is NaN or infinite."""
    offset = v.to(tl.float64) - whole.to(tl.float64)
    return tl.where(tl.abs(offset) <= 0.5, offset, 0.0)


@jit
def corners(radius, angle, angle_word, scale, f1, f2):  # type: ignore[no-untyped-def]
    """`dpfunc.noise.kernels.deciding.corners` of cells of `FINE_BITS`: int64 ``radius, angle``.

    Both items, by the cosine and by the sine, and whether both are known.
    """
    above = tl.maximum(radius, 1).to(tl.float64) * _FINE
    far = tl.where(radius > 0, scale * tl.sqrt(-2.0 * tl.log(above)), _INFINITY)
    near = scale * tl.sqrt(-2.0 * tl.log((radius + 1).to(tl.float64) * _FINE))
    first = angle.to(tl.float64) * _QUARTER
    last = (angle + 1).to(tl.float64) * _QUARTER
    error = (far + 1.0) * _ERROR
    negative = (angle_word >> 31) == 1
    w1, known1 = _between(near * tl.cos(last), far * tl.cos(first), negative, f1, error)
    negative = ((angle_word >> 30) & 1) == 1
    w2, known2 = _between(near * tl.sin(first), far * tl.sin(last), negative, f2, error)
    return w1, w2, known1 & known2


@jit
def _between(least, most, negative, offset, error):  # type: ignore[no-untyped-def]
    low = tl.where(negative, -most, least)
    high = tl.where(negative, -least, most)
    whole = tl.floor(low + offset - error + 0.5)
    return whole, whole == tl.floor(high + offset + error + 0.5)
