"""Features of PyTorch that a loss may use: each works exactly or is refused, and never in between.

The table of docs/sharp_edges.md says the same in words.
"""

from functools import partial

import pytest
import torch

import dpfunc as dp
from dpfunc.types import Tensors
from tests.persample.feature_table import (
    ENTRIES,
    NOWHERE,
    OWN_WORDS,
    in_short,
    looped,
    outcome,
    written,
)
from tests.persample.features import EXACT, FEATURES, Feature, numbers

SAMPLES = 4
REFUSALS = (RuntimeError, NotImplementedError, ValueError, TypeError)


def assert_exact(loss_fn, params: Tensors, x, expected: Tensors) -> None:
    grads, _ = dp.factored_grad(loss_fn)(params, x)
    for name, rows in expected.items():
        norms = rows.abs().reshape(len(rows), -1).square().sum(1).sqrt()
        torch.testing.assert_close(grads[name].dense(), rows, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(dp.leaf_norms(grads)[name], norms, rtol=1e-9, atol=1e-12)


def check(feature: Feature, loss_fn, outcome: str | None) -> None:
    params = feature.params or {"w": numbers(1, 3, 3)}
    x = numbers(2, SAMPLES, *feature.shape)
    if outcome == EXACT:
        assert_exact(loss_fn, params, x, looped(feature.loss, params, x))
    elif outcome is not None:
        with pytest.raises(REFUSALS, match=outcome):
            dp.factored_grad(loss_fn)(params, x)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FEATURES)
def test_in_a_loss_of_one_sample(name):
    check(FEATURES[name], FEATURES[name].loss, FEATURES[name].by_vmap)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FEATURES)
def test_in_a_loss_of_the_whole_batch(name):
    check(FEATURES[name], dp.batched(FEATURES[name].loss), FEATURES[name].by_batch)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", FEATURES)
def test_in_every_entry_it_is_exact_or_refused_in_own_words_as_the_page_says(name, entry):
    said = outcome(FEATURES[name], entry)
    if said not in (EXACT, NOWHERE):
        assert OWN_WORDS.fullmatch(said.partition(": ")[2]), said
        assert "INTERNAL ASSERT" not in said
    (line,) = [line for line in written().splitlines() if line.startswith(f"| {name} |")]
    cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
    assert cells[1 + ENTRIES.index(entry)] == in_short(said)


def test_the_page_has_the_features_in_their_order():
    names = [line.split(" | ")[0].strip("| ") for line in written().splitlines()[2:]]
    assert names == list(FEATURES)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("mark", [lambda loss: loss, dp.batched], ids=["one sample", "whole batch"])
def test_an_engine_inside_a_compiled_function(mark):
    """torch.compile would lose what the taps see, and release noise on zeros."""
    params, x = {"w": numbers(1, 3, 3)}, numbers(2, SAMPLES, 3)
    norm_sq = partial(_norm_sq, mark(lambda p, x: (x @ p["w"]).square().sum(-1)), params)
    torch.testing.assert_close(torch.compile(norm_sq, backend="eager")(x), norm_sq(x))


def _norm_sq(loss_fn, params: Tensors, x) -> torch.Tensor:
    return dp.factored_grad(loss_fn)(params, x)[0]["w"].norm_sq()
