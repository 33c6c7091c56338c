"""The table of power in a tiny form: what is found is a share of what the prototype found."""

import pytest

from benchmarks import audit_power


def test_a_line_has_what_was_found_and_what_was_found_before():
    line = next(audit_power.lines(most=100, repeats=1))
    assert (line.mu, line.count) == (0.5, 100)
    assert 0 <= line.epsilon.value < 1.99
    assert 0 <= line.gaussian.value < 0.5
    assert line.gaussian.share == pytest.approx(line.gaussian.value / 0.228)
    assert line.path.before == 0.31
    assert str(audit_power.Found(1.0, 2.0)) == "1.00 (0.50)"
    assert str(audit_power.Found(None, None)) == ""
