"""Canaries of three kinds: what each pulls, and how it is seen."""

import pytest
import torch

import dpfunc as dp
from dpfunc import audit


def loss(params, x, y):
    return ((params["w"] @ x).tanh().sum() + params["b"] - y).square()


def setting():
    params = {"w": dp.normal(dp.key(1), (3, 4)), "b": torch.zeros(())}
    return params, (dp.normal(dp.key(2), (6, 4)), dp.normal(dp.key(3), (6,)))


def test_a_dirac_canary_pulls_one_coordinate_of_its_own():
    params, real = setting()
    canaries = audit.gradient_canaries(loss, 9, max_norm=0.5, kind="dirac")
    params = canaries.params(params)
    assert set(params) == {"w", "b"}
    numbers = torch.arange(9)
    own = dp.per_sample_grad(canaries.loss_fn)(params, *canaries.records(real, numbers))
    flat = torch.cat([own["b"][:, None], own["w"].flatten(1)], 1)
    assert (flat != 0).sum(1).tolist() == [1] * 9
    assert len(set(flat.nonzero()[:, 1].tolist())) == 9
    for i in range(9):
        seen = canaries.project({name: grad[i] for name, grad in own.items()}, params)
        assert torch.equal(seen, 50.0 * (numbers == i))


@pytest.mark.parametrize("kind", ["own", "dirac"])
def test_real_records_keep_their_gradients(kind):
    params, real = setting()
    canaries = audit.gradient_canaries(loss, 5, kind=kind)
    batch = (*real, audit.real_numbers(real))
    found = dp.per_sample_grad(canaries.loss_fn)(canaries.params(params), *batch)
    for name, expected in dp.per_sample_grad(loss)(params, *real).items():
        assert torch.equal(found[name], expected)
    assert kind == "dirac" or not found["canary"].any()


def test_an_input_canary_is_seen_along_its_own_gradient():
    params, real = setting()
    canaries = audit.gradient_canaries(loss, 6, kind="input", inputs=real)
    assert canaries.loss_fn is loss
    assert torch.equal(canaries.records(real, torch.tensor([4, 1]))[0], real[0][[4, 1]])
    own = dp.per_sample_grad(loss)(params, *real)
    for i in range(6):
        seen = canaries.project({name: grad[i] for name, grad in own.items()}, params)
        length = torch.cat([grad[i].flatten() for grad in own.values()]).norm()
        assert float(seen[i]) == pytest.approx(float(length), rel=1e-5)
        assert (seen.abs() <= length * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "other"}, "a kind"),
        ({"kind": "input"}, "inputs, 6 records"),
        ({"kind": "input", "inputs": (torch.zeros(5), torch.zeros(5))}, "inputs, 6 records"),
        ({"inputs": (torch.zeros(6),)}, "for kind input alone"),
    ],
)
def test_what_is_no_canary_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        audit.gradient_canaries(loss, 6, **options)


def test_more_dirac_canaries_than_parameters_are_refused():
    params, _ = setting()
    canaries = audit.gradient_canaries(loss, 14, kind="dirac")
    with pytest.raises(ValueError, match="at most 13 canaries"):
        canaries.project(params, params)
