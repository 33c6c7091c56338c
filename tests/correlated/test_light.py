"""Strategies, their accounting and calibration come without torch."""

import subprocess
import sys


def test_correlated_imports_no_torch():
    code = (
        "from dpfunc import correlated; import sys; "
        "s = correlated.fractional(steps=100, bands=4); "
        "correlated.unamplified(1.0, s, correlated.Participation(2, 50)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
