"""Every wrong input is answered in dpfunc's own format, and in the name of what the user called."""

import pytest

from tests.wrong_inputs import WRONG, answer, is_own


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.code)
def test_an_error_of_its_own(wrong):
    error = answer(wrong)
    assert is_own(wrong, error), f"{type(error).__name__}: {error}"


def test_there_are_at_least_a_hundred():
    assert len({wrong.code for wrong in WRONG}) == len(WRONG) >= 100
