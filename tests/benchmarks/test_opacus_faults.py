"""What docs/tutorials/from_opacus.md says of a clipped record, held to what the script measures."""

import math

import pytest

from benchmarks.opacus_faults import WAYS, cases, outcome, secure_mode

# Opacus's hooks warn of inputs without gradients, vmap of an embedding bag that it is slow.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NAMES = [case.name for case in cases()]
# (hooks, ghost): the length of a record's clipped gradient in clipping norms, and what is refused.
WRONG_DIRECTION = NAMES[:3] + NAMES[4:5] + NAMES[7:8]
TOO_LONG = NAMES[:3] + NAMES[7:8]


def of(name, way):
    return outcome(cases()[NAMES.index(name)], WAYS[way])


@pytest.mark.parametrize("name", NAMES)
def test_dpfunc_clips_every_record_and_keeps_its_direction(name):
    found = of(name, "dpfunc")
    assert found.length <= 1 + 1e-5
    assert found.error <= 1e-5


@pytest.mark.parametrize("name", WRONG_DIRECTION)
def test_the_hooks_of_opacus_clip_another_gradient(name):
    pytest.importorskip("opacus", reason="needs the bench extra")
    found = of(name, "Opacus hooks")
    assert found.length == pytest.approx(1, abs=1e-3)
    assert found.error > 0.1


@pytest.mark.parametrize("name", TOO_LONG)
def test_ghost_clipping_of_opacus_exceeds_the_clipping_norm(name):
    pytest.importorskip("opacus", reason="needs the bench extra")
    assert of(name, "Opacus ghost").length > 1.1


@pytest.mark.parametrize("way", ["Opacus hooks", "Opacus ghost"])
def test_an_infinite_record_makes_the_sum_of_opacus_nan(way):
    pytest.importorskip("opacus", reason="needs the bench extra")
    assert math.isnan(of(NAMES[-1], way).length)


def test_secure_mode_needs_a_package_that_does_not_install():
    pytest.importorskip("opacus", reason="needs the bench extra")
    assert "torchcsprng" in secure_mode()
