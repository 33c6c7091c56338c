"""L7: where a computation is cut into parts changes nothing; and which constants cut is known."""

import importlib
import pkgutil
from contextlib import ExitStack
from unittest import mock

import pytest
import torch

import dpfunc as dp
import dpfunc.persample
import dpfunc.step
from dpfunc.persample.batches.batch import slices
from dpfunc.persample.factors import convolution, cost, forms, outer
from dpfunc.persample.recurrence import gru, lstm
from dpfunc.persample.rules import convolution as convolution_rules
from tests.laws.uses import SAMPLES, USES

CUTS = {"_CPU_SLICE", "_DEVICE_SLICE", "_BLOCK", "_SAMPLES"}
NO_CUTS = {
    "FEW_SAMPLES": "so many samples are looked at",
    "BRIEFLY_ALONE": "so many of them in a brief look",
    "_CLOSELY_AFTER": "batches of one shape: L7 for looks",
    "_LARGEST": "weight of a sample in a look",
    "_TRIES": "guesses of a microbatch size",
    "_MANY_GRAPHS": "a warning",
    "DEFAULT_SHARE": "of memory, for microbatches: L6",
    "_ROUNDS": "so many cuts are tried in doubt",
    "MANY_ROWS": "from so many on, looks compare the rows that are used: L7 for looks",
    "_KEPT": "the share of layers that a look keeps",
    "_DEPTH": "of functions that are searched for modules of other processes",
}
FORMS = ("prefers_pixel_gram", "prefers_shifts", "prefers_groups")


def test_every_constant_that_cuts_is_known():
    found = set()
    for package in (dpfunc.persample, dpfunc.step):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            found |= {
                name
                for name, value in vars(module).items()
                if name.isupper() and type(value) in (int, float)
            }
    assert found == CUTS | set(NO_CUTS)


def cut_into(size: int, stack: ExitStack) -> None:
    """So many samples, squares or steps at a time, everywhere."""
    patch = lambda module, name, value: stack.enter_context(  # noqa: E731
        mock.patch.object(module, name, value)
    )
    patch(cost, "slices", lambda whole, _: slices(whole, size))
    patch(outer, "samples_of_a_product", lambda *_: size)
    patch(forms, "_BLOCK", size)
    patch(forms, "_SAMPLES", size)
    for module in (lstm, gru):
        patch(module, "steps_at_once", lambda *_: size)


def answers(use, form: str):
    """All that is asked of the gradients of a use."""
    with ExitStack() as stack:
        if form:
            for name in FORMS:
                chosen = mock.Mock(return_value=name == form)
                stack.enter_context(mock.patch.object(convolution, name, chosen))
            kept = mock.Mock(return_value=False)
            stack.enter_context(mock.patch.object(convolution_rules, "worth_forming", kept))
            stack.enter_context(mock.patch.object(outer, "prefers_gram", mock.Mock(return_value=1)))
        grads, losses = dp.factored_grad(use.loss)(use.params, *use.batch)
    found = {"": losses}
    for name, grad in grads.items():
        found |= {f"{name} norm": grad.norm_sq(), f"{name} sizes": grad.sizes()}
        found[f"{name} dense"] = grad.dense()
        for first in (0.0, 0.3):  # with a sample that is dropped, and without
            weights = torch.linspace(first, 1.5, SAMPLES, dtype=torch.float64)
            found[f"{name} sum {first}"] = grad.weighted_sum(weights)
    return found


CASES = [(name, form) for name in USES for form in ("", *(FORMS if "conv" in name else ()))]


@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:LSTM with projections")
def test_cut_into_ones_and_twos(name, form):
    whole = answers(USES[name], form)
    for size in (1, 2):
        with ExitStack() as stack:
            cut_into(size, stack)
            torch.testing.assert_close(answers(USES[name], form), whole, rtol=1e-11, atol=1e-11)
