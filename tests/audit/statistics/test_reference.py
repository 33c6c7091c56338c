"""Numbers that were worked out elsewhere: by quadrature, by published formulas, by enumeration."""

import json
from pathlib import Path

import pytest

from dpfunc.audit.statistics import path_test, rank_test, whole_curve
from dpfunc.audit.statistics.claims import GaussianClaim, approximate_claim

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())


def never_below_and_little_above(p, exact):
    assert exact * (1 - 1e-8) <= p <= 1.02 * exact + 3e-9


def test_of(case):
    return rank_test.RankTest(case["k"], case["n_out"], case["in_above"], case["n_in"])


test_of.__test__ = False


@pytest.mark.parametrize("case", REFERENCE["rank_test"])
def test_the_rank_test_of_an_epsilon(case):
    claim = approximate_claim(case["epsilon"], case["delta"])
    never_below_and_little_above(rank_test.p_value(test_of(case), claim), case["p"])


@pytest.mark.parametrize("case", REFERENCE["rank_test_gdp"])
def test_the_rank_test_of_a_mu(case):
    claim = GaussianClaim(case["mu"])
    never_below_and_little_above(rank_test.p_value(test_of(case), claim), case["p"])


@pytest.mark.parametrize("case", REFERENCE["one_run_p"])
def test_guesses_fixed_beforehand(case):
    p = path_test.fixed_p(
        case["canaries"], case["guesses"], case["correct"], case["epsilon"], case["delta"]
    )
    assert p == pytest.approx(case["p"], rel=1e-8)


@pytest.mark.parametrize("case", REFERENCE["one_run_epsilon_95"])
def test_the_largest_epsilon_refuted(case):
    def p_at(epsilon):
        return path_test.fixed_p(
            case["canaries"], case["guesses"], case["correct"], epsilon, case["delta"]
        )

    found = path_test.largest_refuted(p_at, 0.05, step=1e-3)
    assert case["epsilon"] - 1e-3 <= found <= case["epsilon"]


@pytest.mark.parametrize("case", REFERENCE["walk_crossing"])
def test_walks_that_cross(case):
    p = path_test.crossing(case["steps"], case["thresholds"], case["q"])
    assert p == pytest.approx(case["p"], rel=5e-9)


@pytest.mark.parametrize("case", REFERENCE["one_run_fdp_mu"])
def test_the_largest_mu_refuted_by_one_run(case):
    mu = whole_curve.largest_mu(
        case["canaries"], case["guesses"], case["correct"], case["significance"]
    )
    assert mu == pytest.approx(case["mu"], abs=1e-6)
