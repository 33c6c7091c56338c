"""L2 for keys: a fresh key is the system's bytes, names decode to what they named, and what floats
decide is what exact numbers decide."""

import hashlib
from types import SimpleNamespace

import mpmath
import pytest
import torch
from hypothesis import example, given

from dpfunc.random import discrete, keys
from dpfunc.random.discrete import discrete_gaussian, discrete_laplace
from dpfunc.random.keys import bits, fold_in, key
from tests.random.strategies import DATA

NEAR_SMALL = 2**43  # times 2**-63, about where bits that were not read begin to count


def test_a_fresh_key_is_exactly_the_bytes_of_the_systems_source(monkeypatch):
    given_out: list[bytes] = []

    def system(size: int) -> bytes:
        given_out.append(bytes((7 * i + 11 * len(given_out) + size) % 256 for i in range(size)))
        return given_out[-1]

    monkeypatch.setattr(keys, "secrets", SimpleNamespace(token_bytes=system))
    made = [key() for _ in range(3)]
    assert [one.secret_bytes for one in made] == given_out
    assert {len(one.secret_bytes) for one in made} == {32}


def message_of(data) -> tuple[bytes, dict]:
    """What is hashed for ``data``, and how."""
    seen = []

    def hashed(message: bytes, **options):
        seen.append((message, options))
        return hashlib.blake2b(message, **options)

    before, keys.hashlib = keys.hashlib, SimpleNamespace(blake2b=hashed)
    try:
        made = fold_in(key(1), *data)
    finally:
        keys.hashlib = before
    assert made == fold_in(key(1), *data)
    return seen[-1]


def decoded(message: bytes) -> list[str | int]:
    """By the documented encoding: a letter for the type, eight bytes of length, the payload."""
    found: list[str | int] = []
    while message:
        kind, size = message[:1], int.from_bytes(message[1:9], "little")
        payload, message = message[9 : 9 + size].decode(), message[9 + size :]
        found.append({b"s": str, b"i": int}[kind](payload))
    return found


@given(DATA)
@example(["", "", 0])
@example(["a", "si", -1, "1", 10**30])
def test_what_a_key_is_folded_with_decodes_to_what_went_in(data):
    message, options = message_of(data)
    assert decoded(message) == data
    assert list(map(type, decoded(message))) == list(map(type, data))
    assert options == {"key": key(1).secret_bytes, "digest_size": 32, "person": b"dpfunc.fold_in"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: discrete_laplace(key(4), (9,), scale=0.2),
        lambda: discrete_laplace(key(4), (40,), scale=2.0**40),
        lambda: discrete_gaussian(key(4), (9,), sigma=0.3),
        lambda: discrete_gaussian(key(4), (20,), sigma=2.0**40),
    ],
)
def test_tiny_runs_decided_exactly_are_the_same(draw, monkeypatch):
    quick = draw()
    monkeypatch.setattr(discrete, "_open", lambda is_open, u: list(range(is_open.numel())))
    assert torch.equal(draw(), quick)


def decided(monkeypatch, words: list[int], run):
    """What floats make of the uniforms that begin with ``words``, and which they leave open."""
    left_open: list[int] = []

    def noting(is_open, u):
        left_open.extend(open_of(is_open, u))
        return []

    open_of = discrete._open
    with monkeypatch.context() as patch:
        patch.setattr(discrete, "bits", lambda key, count, **_: torch.tensor(words)[:count])
        patch.setattr(discrete, "_open", noting)
        return run(), set(left_open)


def ends(word: int) -> list[mpmath.mpf]:
    """The least and the largest uniform that begins so: bits that were not read, all alike."""
    return [mpmath.mpf(max(word, mpmath.mpf(2) ** -200)) / 2**63, mpmath.mpf(word + 1) / 2**63]


def hard_words() -> list[int]:
    small = [NEAR_SMALL + k * 2**36 + 1 for k in range(60)]  # just large enough to be decided
    tiny = [3**k for k in range(27)]
    return [*small, *tiny, *(word % 2**63 for word in bits(key(9), 60).tolist()), 2**63 - 1]


@pytest.mark.parametrize("scale", [0.7, 1e3, 2.0**20 + 0.5, 2.0**31, 2.0**40])
def test_whole_numbers_that_floats_decide_are_those_of_every_uniform(scale, monkeypatch):
    """Whatever the bits are that were not read; against 60 digits."""
    words, wrong = hard_words(), 0
    run = lambda: discrete._geometric(key(1), len(words), scale, torch.device("cpu"))  # noqa: E731
    numbers, left_open = decided(monkeypatch, words, run)
    with mpmath.workdps(60):
        for place, word in enumerate(words):
            true = {int(mpmath.floor(-mpmath.mpf(scale) * mpmath.log(u))) for u in ends(word)}
            if true != {int(numbers[place])}:
                wrong += 1
                assert place in left_open, (word, true)
    assert wrong > 0  # there was something to leave open


@pytest.mark.parametrize("sigma", [0.7, 30.0, 1e5, 2.0**40])
def test_coins_that_floats_decide_are_those_of_every_uniform(sigma, monkeypatch):
    """Uniforms next to the very probability with which a number is accepted."""
    words, proposed, wrong = [], [], 0
    with mpmath.workdps(60):
        s = mpmath.mpf(sigma)
        distance = lambda y: ((y - s * s / (int(sigma) + 1)) / s) ** 2 / 2  # noqa: E731
        for step in range(40):
            y = int(step * sigma / 8)
            edge = int(mpmath.exp(-distance(y)) * 2**63)
            for off in (-1, 0, 1, 2**8, -(2**8), 2**12):
                if 0 < edge + off < 2**63:
                    words.append(edge + off)
                    proposed.append(-y if step % 2 else y)
        run = lambda: discrete._accept(key(1), torch.tensor(proposed), sigma)  # noqa: E731
        accepted, left_open = decided(monkeypatch, words, run)
        for place, (word, y) in enumerate(zip(words, proposed, strict=True)):
            true = {-mpmath.log(u) >= distance(abs(y)) for u in ends(word)}
            if true != {bool(accepted[place])}:
                wrong += 1
                assert place in left_open, (word, y)
    assert wrong > 0
