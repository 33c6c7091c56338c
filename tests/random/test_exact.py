import mpmath
import pytest
import torch

from dpfunc.random.exact import LazyUniform, exact_floor, further_key
from dpfunc.random.keys import bits, fold_in, key


def test_the_bits_of_a_uniform_go_on_where_they_stopped():
    uniform = LazyUniform(5, 3, key(1))
    mpmath.mp.prec = 53
    for words in (1, 2, 5):
        context = mpmath.MPIntervalContext() if hasattr(mpmath, "MPIntervalContext") else None
        context = context or type(mpmath.iv)()
        context.prec = 1000
        here = uniform.interval(context, words)
        assert here in context.mpf([5, 6]) / 8
        assert uniform.interval(context, words + 1) in here
        assert here.delta == context.mpf(2) ** -(3 + 64 * words)


def test_easy_and_hard_floors():
    half = LazyUniform(1, 1, key(1))  # between 1/2 and 1
    assert exact_floor(lambda context, u: 10 + u / 4, half) == 10
    assert exact_floor(lambda context, u: -u, half) == -1
    assert exact_floor(lambda context, u: -10 - u / 4, half) == -11
    # Open until 2000 bits are read: the first 32 words agree with the number subtracted.
    words = [word % 2**64 for word in bits(key(1), 32).tolist()]
    known = sum(word << (64 * (31 - i)) for i, word in enumerate(words))
    total = (1 << (64 * 32)) | known
    assert exact_floor(lambda c, u: u - c.mpf(total) / 2 ** (1 + 64 * 32), half) == 0
    assert exact_floor(lambda c, u: u - c.mpf(total + 1) / 2 ** (1 + 64 * 32), half) == -1


def test_a_logarithm_near_zero_waits_for_bits():
    nearly_zero = LazyUniform(0, 64, key(2))
    value = exact_floor(lambda context, u: -context.log(u), nearly_zero)
    (word,) = (w % 2**64 for w in bits(key(2), 1).tolist())
    assert value == int(mpmath.floor(128 * mpmath.log(2) - mpmath.log(word + 0.5)))


def test_the_precision_of_the_callers_context_is_left_alone():
    before = mpmath.iv.prec, mpmath.mp.prec
    exact_floor(lambda context, u: context.sqrt(u), LazyUniform(1, 1, key(1)))
    assert (mpmath.iv.prec, mpmath.mp.prec) == before


def test_items_have_bits_of_their_own():
    keys = {further_key(key(1), index).secret_bytes for index in range(100)}
    assert len(keys) == 100
    assert further_key(key(1), 0) != fold_in(key(1), 0)
    assert not torch.equal(bits(further_key(key(1), 0), 4), bits(key(1), 4))


@pytest.mark.parametrize("words", [1, 3])
def test_an_interval_holds_its_midpoint_and_nothing_wider(words):
    context = type(mpmath.iv)()
    context.prec = 400
    here = LazyUniform(2**62, 63, key(3)).interval(context, words)
    assert context.mpf(1) / 2 <= here.b
    assert here.b - context.mpf(1) / 2 <= context.mpf(2) ** -62
