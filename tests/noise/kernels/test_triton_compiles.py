"""The Triton kernel compiles for GPUs, without one here, and to the operations that are written."""

import os
import re
from collections import Counter
from importlib import import_module

import pytest

from dpfunc.noise.kernels import by_triton, triton_kernel
from dpfunc.noise.kernels.flat import DTYPES

triton = pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

TYPES = {"table": "*i64", "count": "*i32", "listed": "*fp64", "scale_bits": "i64"}
TYPES |= dict.fromkeys(("inverse", "grid", "small", "large"), "fp32")
TYPES |= dict.fromkeys(("kind", "lanes"), "constexpr")
FUSED_IN_A_ROW = 16 + 2 + 1  # of `polar`, of both items, and of the bound


def compiled(dtype, capability):
    """PTX, and the bytes of the machine code."""
    kernel = triton_kernel.release_pieces
    source = import_module("triton.compiler").ASTSource(
        fn=kernel,
        signature={name: TYPES.get(name, "i32") for name in kernel.arg_names},
        constexprs={"kind": triton_kernel.kind_of(dtype), "lanes": by_triton.LANES},
    )
    target = import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    options = {"num_warps": 1, **by_triton.EXACT}
    built = triton.compile(source, target=target, options=options)
    return built.asm["ptx"], built.asm["cubin"]


def operations(ptx):
    """How often each instruction is there."""
    found = (re.match(r"\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s", line) for line in ptx.splitlines())
    return Counter(match[1] for match in found if match)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_operation_is_rounded_as_it_is_written(dtype, capability, tmp_path, monkeypatch):
    """No other fused product, no approximate root or division, nothing flushed to zero.

    The reciprocal of the library's logarithm of float64 is only the start of its division.
    """
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx, machine_code = compiled(dtype, capability)
    assert len(machine_code) > 10_000
    found = operations(ptx)
    assert found["fma.rn.f32"] == 8 * FUSED_IN_A_ROW
    assert found["sqrt.rn.f32"] == 8
    assert found["sqrt.rn.f64"] == 2
    inexact = {name for name in found if re.search(r"ftz|approx|div\.full|ex2|lg2", name)}
    assert inexact <= {"rcp.approx.ftz.f64"}
