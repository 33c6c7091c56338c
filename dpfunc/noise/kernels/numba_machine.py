"""Operations on 32-bit words and floats that compile to one instruction each, for numba.

numba's own integers widen to 64 bits, which halves what a vector register holds.
"""

from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

WORD, SINGLE = ir.IntType(32), ir.FloatType()


def _binary(name: str) -> Any:
    """The LLVM instruction ``name`` of two values of one type."""

    def operation(_context: Any, left: Any, right: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return left(left, right), generate

    return intrinsic(operation)


def _function(name: str, count: int) -> Any:
    """The LLVM intrinsic ``name`` of ``count`` floats."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = args[0].type
        declared = ir.FunctionType(kind, [kind] * count)
        return builder.call(builder.module.declare_intrinsic(name, [kind], declared), args)

    def of_one(_context: Any, x: Any) -> Any:
        return x(x), generate

    def of_three(_context: Any, x: Any, y: Any, z: Any) -> Any:
        return x(x, y, z), generate

    return intrinsic({1: of_one, 3: of_three}[count])


def _rotation(count: int) -> Any:
    """A word rotated left."""

    def operation(_context: Any, word: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            declared = ir.FunctionType(WORD, [WORD] * 3)
            shift = builder.module.declare_intrinsic("llvm.fshl", [WORD], declared)
            return builder.call(shift, [args[0], args[0], ir.Constant(WORD, count)])

        return word(word), generate

    return intrinsic(operation)


add, sub, xor = _binary("add"), _binary("sub"), _binary("xor")
conjunction, right, right_signed, left = map(_binary, ("and_", "lshr", "ashr", "shl"))
rotate16, rotate12, rotate8, rotate7 = map(_rotation, (16, 12, 8, 7))
nearest, root, magnitude = (_function(f"llvm.{name}", 1) for name in ("rint", "sqrt", "fabs"))
fused = _function("llvm.fma", 3)
"""``fused(x, y, z) = x y + z``, rounded once."""


@intrinsic
def as_single(_context: Any, word: Any) -> Any:
    """The float whose bits a word has."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], SINGLE)

    return types.float32(word), generate


@intrinsic
def as_word(_context: Any, single: Any) -> Any:
    """The bits of a float."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], WORD)

    return types.uint32(single), generate


@intrinsic
def to_single(_context: Any, word: Any) -> Any:
    """The signed whole number in a word as a float, rounded to the nearest."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.sitofp(args[0], SINGLE)

    return types.float32(word), generate


@intrinsic
def _pointer(_context: Any, address: Any, kind: Any) -> Any:
    def generate(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], target.get_value_type(signature.return_type))

    return types.CPointer(kind.instance_type)(address, kind), generate


def compiled(inline: bool = False) -> Any:
    """A decorator: compiled once a machine, by IEEE arithmetic, without the interpreter's lock."""
    if inline:
        return njit(inline="always", error_model="numpy")
    return njit(nogil=True, error_model="numpy", cache=True)


@compiled(inline=True)
def items_at(address: Any, size: Any, kind: Any) -> Any:
    """The array of ``size`` numbers of the dtype ``kind`` that is at an address."""
    return carray(_pointer(address, kind), (size,))
