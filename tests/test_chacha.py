import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpfunc.chacha import keystream, torch_keystream
from tests.devices import DEVICES

CPU = torch.device("cpu")
BACKENDS = [keystream, torch_keystream]


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


@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 1000), st.binary(min_size=12, max_size=12)
)
def test_both_backends_give_the_same_bits(key, size, nonce):
    ours = torch_keystream(key, size, device=CPU, nonce=nonce)
    openssl = keystream(key, size, device=CPU, nonce=nonce)
    assert ours.dtype == openssl.dtype == torch.uint8
    assert ours.shape == (size,)
    assert torch.equal(ours, openssl)


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
