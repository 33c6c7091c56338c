"""What a step does to the weights of a rule: masked, divided, for gradients yet to be scaled."""

import torch

from dpfunc.clipping.weights import divided, masked, of_scaled, scaled
from dpfunc.types import Weights

SHARED = torch.tensor([1.0, 0.5, 0.25])
OWN = torch.tensor([0.1, 0.2, 0.3])
WEIGHTS = Weights({"a": SHARED, "b": OWN, "c": SHARED}, 2.0)


def test_each_parameter_keeps_the_weights_of_its_own():
    for change in (
        lambda w: divided(w, 4.0),
        lambda w: of_scaled(w, 0.25),
        lambda w: Weights({n: v / 4 for n, v in masked(w, torch.ones(3) > 0).values.items()}, 1.0),
    ):
        values = change(WEIGHTS).values
        assert list(values) == ["a", "b", "c"]
        assert all(torch.equal(values[name], WEIGHTS.values[name] / 4) for name in values)


def test_what_is_shared_is_worked_out_once():
    values = divided(WEIGHTS, 3.0).values
    assert values["a"] is values["c"]


def test_bounds_and_zeros():
    assert divided(WEIGHTS, 4.0).bound == 0.5
    assert of_scaled(WEIGHTS, 4.0).bound == 2.0
    assert of_scaled(WEIGHTS, 1.0) is WEIGHTS
    left_out = masked(WEIGHTS, torch.tensor([True, False, True]))
    assert left_out.bound == 2.0
    assert all(value[1] == 0 for value in left_out.values.values())
    assert torch.equal(scaled({"a": OWN}, 2.0)["a"], 2 * OWN)
