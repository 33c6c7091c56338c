"""The ChaCha20 block function as one Triton kernel, for CUDA devices: 20 rounds in registers.

In torch operations every addition and rotation of the cipher is a pass over memory; here a block is
read nowhere and written once. `dpfunc.random.chacha` checks it against OpenSSL before its first
use.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # it comes with the CUDA builds of torch
    triton = None


def _as_it_is(function: Callable[..., Any] | None = None, **_options: Any) -> Any:
    """Instead of ``triton.jit`` where there is no Triton: nobody calls the function then."""
    return function or _as_it_is


jit: Callable[..., Any] = triton.jit if triton else _as_it_is
_BLOCKS = 128  # of the cipher, in a program of the kernel: one for each of its threads


@jit
def _quarter(a, b, c, d):  # type: ignore[no-untyped-def]  # Triton reads the annotations
    """RFC 8439 section 2.1."""
    a = a + b
    d = d ^ a
    d = (d << 16) | (d >> 16)
    c = c + d
    b = b ^ c
    b = (b << 12) | (b >> 20)
    a = a + b
    d = d ^ a
    d = (d << 8) | (d >> 24)
    c = c + d
    b = b ^ c
    b = (b << 7) | (b >> 25)
    return a, b, c, d


@jit
def twenty_rounds(x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15):  # type: ignore[no-untyped-def]
    """RFC 8439 section 2.3 without the last addition: ten column and diagonal rounds."""
    for _ in range(10):
        x0, x4, x8, x12 = _quarter(x0, x4, x8, x12)
        x1, x5, x9, x13 = _quarter(x1, x5, x9, x13)
        x2, x6, x10, x14 = _quarter(x2, x6, x10, x14)
        x3, x7, x11, x15 = _quarter(x3, x7, x11, x15)
        x0, x5, x10, x15 = _quarter(x0, x5, x10, x15)
        x1, x6, x11, x12 = _quarter(x1, x6, x11, x12)
        x2, x7, x8, x13 = _quarter(x2, x7, x8, x13)
        x3, x4, x9, x14 = _quarter(x3, x4, x9, x14)
    return x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15


@jit
def _chacha20(stream, state, blocks, first_block):  # type: ignore[no-untyped-def]
    block = tl.program_id(0).to(tl.int64) * 128 + tl.arange(0, 128)  # _BLOCKS
    zero = (block * 0).to(tl.uint32)
    s0 = zero + tl.load(state + 0).to(tl.uint32, bitcast=True)
    s1 = zero + tl.load(state + 1).to(tl.uint32, bitcast=True)
    s2 = zero + tl.load(state + 2).to(tl.uint32, bitcast=True)
    s3 = zero + tl.load(state + 3).to(tl.uint32, bitcast=True)
    s4 = zero + tl.load(state + 4).to(tl.uint32, bitcast=True)
    s5 = zero + tl.load(state + 5).to(tl.uint32, bitcast=True)
    s6 = zero + tl.load(state + 6).to(tl.uint32, bitcast=True)
    s7 = zero + tl.load(state + 7).to(tl.uint32, bitcast=True)
    s8 = zero + tl.load(state + 8).to(tl.uint32, bitcast=True)
    s9 = zero + tl.load(state + 9).to(tl.uint32, bitcast=True)
    s10 = zero + tl.load(state + 10).to(tl.uint32, bitcast=True)
    s11 = zero + tl.load(state + 11).to(tl.uint32, bitcast=True)
    s13 = zero + tl.load(state + 13).to(tl.uint32, bitcast=True)
    s14 = zero + tl.load(state + 14).to(tl.uint32, bitcast=True)
    s15 = zero + tl.load(state + 15).to(tl.uint32, bitcast=True)
    s12 = (first_block + block).to(tl.uint32)  # the counter, which wraps around
    x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = twenty_rounds(
        s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15
    )
    place, inside = stream + block * 16, block < blocks
    tl.store(place + 0, (x0 + s0).to(tl.int32, bitcast=True), inside)
    tl.store(place + 1, (x1 + s1).to(tl.int32, bitcast=True), inside)
    tl.store(place + 2, (x2 + s2).to(tl.int32, bitcast=True), inside)
    tl.store(place + 3, (x3 + s3).to(tl.int32, bitcast=True), inside)
    tl.store(place + 4, (x4 + s4).to(tl.int32, bitcast=True), inside)
    tl.store(place + 5, (x5 + s5).to(tl.int32, bitcast=True), inside)
    tl.store(place + 6, (x6 + s6).to(tl.int32, bitcast=True), inside)
    tl.store(place + 7, (x7 + s7).to(tl.int32, bitcast=True), inside)
    tl.store(place + 8, (x8 + s8).to(tl.int32, bitcast=True), inside)
    tl.store(place + 9, (x9 + s9).to(tl.int32, bitcast=True), inside)
    tl.store(place + 10, (x10 + s10).to(tl.int32, bitcast=True), inside)
    tl.store(place + 11, (x11 + s11).to(tl.int32, bitcast=True), inside)
    tl.store(place + 12, (x12 + s12).to(tl.int32, bitcast=True), inside)
    tl.store(place + 13, (x13 + s13).to(tl.int32, bitcast=True), inside)
    tl.store(place + 14, (x14 + s14).to(tl.int32, bitcast=True), inside)
    tl.store(place + 15, (x15 + s15).to(tl.int32, bitcast=True), inside)


def available(device: torch.device) -> bool:
    """Whether there is a CUDA device to run on and Triton to compile for it."""
    return device.type == "cuda" and triton is not None


def fill(stream: Tensor, state: Tensor, first_block: int) -> None:
    """Write the keystream of ``state`` from block ``first_block`` on.

    ``stream``: int32 ``[blocks * 16]``. ``state``: int32 ``[16]``, the initial state of RFC 8439
    section 2.3 with counter 0.
    """
    blocks = stream.shape[0] // 16
    grid = (-(-blocks // _BLOCKS),)
    with torch.cuda.device_of(stream):  # Triton starts kernels on the current device
        _chacha20[grid](stream, state, blocks, first_block)
