"""Random questions: no warning, no error but dpfunc's own, no crossing of ends, none for ever."""

import pytest

from tests.accounting.questions_at_random import faults


def test_a_few_questions():
    wrong, _ = faults(count=12, seed=0, with_slow=False)  # the nightly test has those as well
    assert not wrong


@pytest.mark.nightly
def test_three_thousand_questions():
    wrong, times = faults(count=3000, seed=1)
    assert not wrong
    assert sum(took < 0.5 for took, _ in times) >= 0.95 * len(times)
