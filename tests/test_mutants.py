"""The lines that mutants change are where they are looked for: known before any is planted."""

import pytest

from tests.accounting import event_mutants
from tests.audit import audit_mutants
from tests.correlated import mutants as correlated_mutants
from tests.distributed import mutants as process_mutants
from tests.laws import mutants
from tests.mutation import ROOT


@pytest.mark.parametrize(
    "mutant",
    [
        *mutants.MUTANTS,
        *event_mutants.MUTANTS,
        *process_mutants.MUTANTS,
        *correlated_mutants.MUTANTS,
        *audit_mutants.MUTANTS,
    ],
    ids=lambda m: m.mistake,
)
def test_its_line_is_there_once(mutant):
    assert (ROOT / "dpfunc" / mutant.file).read_text().count(mutant.right) == 1
