"""What docs/audit.md says that `check_step` finds in Opacus; in dpfunc it finds nothing."""

import pytest

from benchmarks.opacus_check_step import WAYS, cases
from dpfunc import audit

NAMES = [case.name for case in cases()]
# By way: the severities for zeros, circular and reflect padding, and for a mean over tokens.
PADDED = {"not finite", "wrong gradient"}
FOUND = {
    "Opacus hooks": [{"not finite"}, PADDED, PADDED, PADDED | {"violation"}],
    "Opacus ghost clipping": [
        {"not finite"},
        {"not finite", "violation"},
        {"not finite", "violation"},
        PADDED | {"violation"},
    ],
    "dpfunc": [set()] * 4,
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # inputs without gradients: Opacus's


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_found(name, way):
    if way != "dpfunc":
        pytest.importorskip("opacus", reason="Opacus is what the step is of")
    number = NAMES.index(name)
    report = audit.check_step(**WAYS[way](cases()[number]))
    assert {finding.severity for finding in report.findings} == FOUND[way][number]
    assert (report.worst > 1.001) == ("violation" in FOUND[way][number])
