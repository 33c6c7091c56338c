"""The lines that mutants change, and the tests that notice, are there before one is planted."""

import pytest

from tests.accounting import event_mutants
from tests.audit import audit_mutants
from tests.correlated import mutants as correlated_mutants
from tests.distributed import mutants as process_mutants
from tests.laws import mutants
from tests.mutation import ROOT, named_tests, names_of
from tests.noise.kernels import triton_mutants
from tests.step import mutants as step_mutants

LISTS = [
    *mutants.LISTS,
    *event_mutants.LISTS,
    *process_mutants.LISTS,
    *audit_mutants.LISTS,
    *triton_mutants.LISTS,
]
MUTANTS = [
    pytest.param(mutant, pattern, id=mutant.mistake) for of, pattern in LISTS for mutant in of
]


@pytest.mark.parametrize(("mutant", "pattern"), MUTANTS)
def test_its_line_is_there_once(mutant, pattern):
    assert (ROOT / "dpfunc" / mutant.file).read_text().count(mutant.right) == 1


@pytest.mark.parametrize(("mutant", "pattern"), MUTANTS)
def test_what_notices_it_is_there(mutant, pattern):
    names = names_of(mutant)
    assert names
    for name in names:
        assert named_tests(ROOT, pattern, name), name


def test_every_list_is_run():
    for part in (correlated_mutants, step_mutants):
        assert (part.MUTANTS, part.PATTERN) in LISTS


def test_every_law_is_tried_by_the_gate():
    """A mutant is left for the night only where another one of its file of tests is not."""
    files = {
        is_nightly: {
            name.split("::")[0]
            for of, _ in LISTS
            for mutant in of
            if mutant.nightly == is_nightly
            for name in names_of(mutant)
        }
        for is_nightly in (False, True)
    }
    assert files[True] <= files[False]
