"""The Triton kernel compiles for GPUs, without one here, and to the operations that are written.

Triton is told of a GPU that is not there. What would be started on it is compiled, from the very
arguments of a release.
"""

import os
import re
from collections import Counter
from importlib import import_module

import pytest
import torch

import dpfunc as dp
from dpfunc.noise.kernels import by_triton, triton_kernel
from dpfunc.noise.kernels.flat import DTYPES, Piece
from dpfunc.noise.kernels.format import streams

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

FUSED_IN_A_ROW = 16 + 2 + 1  # of `polar`, of both items, and of the bound


class Driver:
    """Of a GPU of this compute capability that is not there."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        return import_module("triton.backends.compiler").GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return self.capability  # what is compiled is kept for each device

    def get_current_stream(self, device):
        return 0


class Kernels:
    """`dpfunc.noise.kernels.triton_kernel`, compiled and not started; ``made``: what came of it."""

    kind_of = staticmethod(triton_kernel.kind_of)

    def __init__(self):
        self.made = []
        self.release_pieces = self

    def __getitem__(self, programs):
        def start(*args, **options):
            compile_it = triton_kernel.release_pieces.warmup
            self.made.append(compile_it(*args, grid=programs, **options))

        return start


@pytest.fixture(params=[80, 90])
def kernels(request, tmp_path, monkeypatch):
    driver, made = import_module("triton.runtime").driver, Kernels()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(by_triton, "import_module", lambda name: made)
    monkeypatch.setattr(driver, "_active", Driver(request.param))
    return made


def operations(ptx):
    """How often each instruction is there."""
    found = (re.match(r"\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s", line) for line in ptx.splitlines())
    return Counter(match[1] for match in found if match)


def test_every_operation_is_rounded_as_it_is_written(kernels):
    """No other fused product, no approximate root or division, nothing flushed to zero.

    The reciprocal of the library's logarithm of float64 is only the start of its division. One
    kernel for each dtype serves all keys, scales, grids and pieces.
    """
    for seed in range(20):
        pieces = [
            Piece(torch.zeros(n, dtype=dtype), 0) for n in (1, 5000, 4096) for dtype in DTYPES
        ]
        own = pieces[: 2 + 2 * (seed % 3)]
        by_triton.release_by_triton(own, streams(dp.key(seed)), 64 + 2.1 * seed, 2.0**seed)
    assert len(kernels.made) == 40
    assert len({id(each) for each in kernels.made}) == len(DTYPES)
    for each in kernels.made[:2]:
        assert len(each.asm["cubin"]) > 10_000
        found = operations(each.asm["ptx"])
        assert found["fma.rn.f32"] == 8 * FUSED_IN_A_ROW
        assert found["sqrt.rn.f32"] == 8
        assert found["sqrt.rn.f64"] == 2
        inexact = {name for name in found if re.search(r"ftz|approx|div\.full|ex2|lg2", name)}
        assert inexact <= {"rcp.approx.ftz.f64"}
