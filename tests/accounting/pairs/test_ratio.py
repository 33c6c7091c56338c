"""Which cell a value is in, by its leading bits: the same as by a search."""

import numpy as np
import pytest

from dpfunc.accounting.pairs.allocation import ratio
from dpfunc.accounting.pairs.allocation.ratio import cells_at, cut

RNG = np.random.default_rng(5)
PLACES = {
    "one": np.array([0.7]),
    "spread over all sizes": np.sort(np.exp(RNG.uniform(-300, 300, 1500))),
    "dense around 1": np.unique(np.append(1 + 1e-9 * RNG.normal(size=700), np.geomspace(1e-5, 9))),
    "neighbours": np.nextafter(2.0, [0.0, 4.0, np.inf]).cumsum(),
}


@pytest.mark.parametrize("leading", [1, 4, 15])
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_cells_are_those_of_a_search(places, leading, monkeypatch):
    monkeypatch.setattr(ratio, "_LEADING", leading)
    beside = np.concatenate([np.nextafter(places, 0), np.nextafter(places, np.inf)])
    near = places[RNG.integers(len(places), size=3000)] * (1 + 1e-3 * RNG.normal(size=3000))
    values = np.concatenate([[0.0, 5e-324, 1e308, np.inf], places, beside, near])
    assert np.array_equal(cells_at(places)(values), np.searchsorted(places, values, side="right"))


@pytest.mark.parametrize("is_above", [True, False])
def test_a_list_is_cut_alike_whatever_stays_in_the_cache(is_above, monkeypatch):
    places = np.geomspace(1e-3, 1e3, 50)
    values, mass = np.exp(RNG.uniform(-8, 6.9, 1000)), RNG.random(1000)
    whole = cut(values, mass, places, is_above)
    monkeypatch.setattr(ratio, "_AT_ONCE", 7)
    for one, other in zip(whole, cut(values, mass, places, is_above), strict=True):
        assert one == pytest.approx(other, rel=1e-12)
