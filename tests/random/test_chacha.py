import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dpfunc.random.chacha as chacha
from dpfunc.random.chacha import keystream, torch_keystream, triton_keystream
from tests.devices import DEVICES

CPU = torch.device("cpu")
BACKENDS = [keystream, torch_keystream]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton on the CPU, slowly


def as_hex(words):
    return bytes(words.tolist()).hex()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rfc_8439_appendix_a1_vectors_1_and_2(backend):
    stream = backend(bytes(32), 128, device=CPU)
    assert as_hex(stream[:64]) == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )
    assert as_hex(stream[64:]) == (
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_rfc_8439_section_2_3_2_block(backend):
    nonce = bytes.fromhex("000000090000004a00000000")
    stream = backend(bytes(range(32)), 128, device=CPU, nonce=nonce)
    assert as_hex(stream[64:]) == (  # the vector is for block counter 1
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


STREAMS = given(
    key=st.binary(min_size=32, max_size=32),
    size=st.integers(0, 1000),
    nonce=st.binary(min_size=12, max_size=12),
    first_block=st.one_of(st.integers(0, 2**32 - 16), st.just(2**31 - 5), st.just(2**32 - 16)),
)


def same_bits(ours, key, size, nonce, first_block, device=CPU):
    stream = ours(key, size, device=device, nonce=nonce, first_block=first_block)
    openssl = keystream(key, size, device=CPU, nonce=nonce, first_block=first_block)
    assert stream.dtype == openssl.dtype == torch.uint8
    assert stream.shape == (size,)
    assert torch.equal(stream.cpu(), openssl)


@STREAMS
def test_both_backends_give_the_same_bits(key, size, nonce, first_block):
    same_bits(torch_keystream, key, size, nonce, first_block)


@pytest.mark.skipif(not (torch.cuda.is_available() or INTERPRETED), reason="needs CUDA")
@STREAMS
def test_the_triton_kernel_gives_the_same_bits(key, size, nonce, first_block):
    pytest.importorskip("triton")
    device = CPU if INTERPRETED else torch.device("cuda")
    same_bits(triton_keystream, key, size, nonce, first_block, device)


def test_a_kernel_with_a_wrong_answer_is_not_used(monkeypatch):
    def wrong(*arguments, **options):
        stream = torch_keystream(*arguments, **options)
        stream[-1] ^= 1
        return stream

    monkeypatch.setattr(chacha, "triton_keystream", wrong)
    with pytest.raises(RuntimeError, match="the Triton kernel is wrong on cpu"):
        chacha._check_triton(CPU)
    monkeypatch.setattr(chacha, "triton_keystream", torch_keystream)
    chacha._check_triton(CPU)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same_bits(device):
    here = keystream(bytes(32), 100_003, device=torch.device(device)).cpu()
    assert torch.equal(here, keystream(bytes(32), 100_003, device=CPU))


def test_a_longer_stream_begins_with_the_shorter_one():
    long = keystream(bytes(32), 1000, device=CPU)
    assert torch.equal(keystream(bytes(32), 130, device=CPU), long[:130])


def test_every_bit_is_balanced():
    stream = keystream(bytes(range(32)), 10**6, device=CPU).numpy()
    ones = np.unpackbits(stream).reshape(-1, 8).sum(0)
    assert (abs(ones - 5e5) < 5 * 500).all()


def test_a_stream_past_the_block_counter_is_refused():
    with pytest.raises(ValueError, match="256 GiB"):
        keystream(bytes(32), 64 * 2**32 + 1, device=CPU)
    with pytest.raises(ValueError, match="256 GiB"):
        keystream(bytes(32), 65, device=CPU, first_block=2**32 - 1)
    assert keystream(bytes(32), 64, device=CPU, first_block=2**32 - 1).shape == (64,)
