"""Thresholded histograms: the event is above every pair of neighbours, worked out one by one."""

import math

import pytest
from scipy.stats import laplace, norm

from dpfunc.accounting import Gaussian, Laplace, delta, epsilon, thresholded_histogram


def passes(mechanism, threshold, bins):
    """That a count of 1 is released: by the definition of the two noises."""
    if isinstance(mechanism, Gaussian):
        return norm.sf(threshold, 1, mechanism.noise_multiplier * math.sqrt(bins))
    return laplace.sf(threshold, 1, mechanism.noise_multiplier * bins)


def of_others(mechanism, bins, others):
    """The noisy counts of ``others`` bins that the record shares, with the noise for ``bins``."""
    if isinstance(mechanism, Gaussian):
        return Gaussian(mechanism.noise_multiplier * math.sqrt(bins / others))
    return Laplace(mechanism.noise_multiplier * bins / others)


def exact_deltas(mechanism, threshold, bins, e):
    """Removing and adding a record that fills ``alone`` of the bins by itself.

    With the record its own bins are named with chance 1 - stay; else the outcome is one of the
    noisy counts of the others, so likely.
    """
    for alone in range(bins + 1):
        stay = (1 - passes(mechanism, threshold, bins)) ** alone
        if alone == bins:
            others = {
                "remove": max(0.0, stay - math.exp(e)),
                "add": max(0.0, 1 - math.exp(e) * stay),
            }
        else:
            release = of_others(mechanism, bins, bins - alone)
            others = {
                "remove": stay * hockey_stick(release, e - math.log(stay)),
                "add": hockey_stick(release, e + math.log(stay)),
            }
        yield 1 - stay + others["remove"], others["add"]


def hockey_stick(release, e):
    """``delta`` at any epsilon: at one below 0 by the symmetry of the pair."""
    return (
        delta(release, epsilon=e) if e >= 0 else 1 - math.exp(e) * (1 - delta(release, epsilon=-e))
    )


@pytest.mark.parametrize("bins", [1, 3])
@pytest.mark.parametrize("mechanism", [Gaussian(1.3), Gaussian(4.0), Laplace(0.7), Laplace(2.5)])
@pytest.mark.parametrize("threshold", [-1.0, 4.0, 12.0])
@pytest.mark.parametrize("e", [0.0, 1.5])
def test_no_neighbours_are_further_apart(mechanism, threshold, bins, e):
    event = thresholded_histogram(mechanism, threshold=threshold, bins=bins)
    exact = list(exact_deltas(mechanism, threshold, bins, e))
    for relation, of_relation in zip(("remove", "add"), zip(*exact, strict=True), strict=True):
        claimed = delta(event, epsilon=e, relation=relation)
        assert claimed >= max(of_relation) * (1 - 1e-9)
    assert delta(event, epsilon=e) <= 2.0001 * max(map(max, exact)) + 1e-12


def test_composition_adds_the_chances():
    one = thresholded_histogram(Laplace(2.0), threshold=20.0)
    (part,) = [leaf for leaf in one.events if leaf != Laplace(2.0)]
    assert delta(one * 5, epsilon=2.6) == pytest.approx(1 - (1 - part.delta) ** 5, rel=1e-9)


def test_edges():
    assert delta(thresholded_histogram(Gaussian(0.0), threshold=1.0), epsilon=1.0) == 1
    far = thresholded_histogram(Gaussian(1.0), threshold=1e6)
    assert epsilon(far, delta=1e-5) == pytest.approx(epsilon(Gaussian(1.0), delta=1e-5))
    assert delta(thresholded_histogram(Laplace(1.0), threshold=-1e6), epsilon=9.0) == 1


@pytest.mark.parametrize("mechanism", [Laplace(1.0), Gaussian(1.0)])
def test_a_chance_below_all_floats_is_still_one(mechanism):
    """A bin that one record fills is named now and then: no epsilon holds at delta 0."""
    event = thresholded_histogram(mechanism, threshold=1e6)
    assert delta(event, epsilon=800.0) > 0
    assert epsilon(event, delta=0.0) == math.inf


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"mechanism": 1.0, "threshold": 1.0}, TypeError, "a Gaussian or Laplace event"),
        ({"mechanism": Laplace(math.inf), "threshold": 1.0}, ValueError, "finite deviation"),
        ({"mechanism": Laplace(1.0), "threshold": math.nan}, ValueError, "finite threshold"),
        ({"mechanism": Laplace(1.0), "threshold": 1.0, "bins": 0}, ValueError, "bins >= 1"),
    ],
)
def test_refusals(arguments, error, said):
    with pytest.raises(error, match=f"^thresholded_histogram: .*{said}"):
        thresholded_histogram(**arguments)
