"""What each feature of PyTorch comes to in the three entries: run, and written down as a table.

``python -m tests.persample.feature_table`` writes the table into docs/sharp_edges.md.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.types import Tensors
from tests.persample.features import FEATURES, Feature, numbers

PAGE = Path(__file__).parents[2] / "docs" / "sharp_edges.md"
BEGIN, END = "<!-- features: begin -->\n", "<!-- features: end -->"
ENTRIES = ("one sample", "whole batch", "engine")
SAMPLES, EXACT, NOWHERE = 4, "exact", "-"
OWN_WORDS = re.compile(r"[\w.]+: expected (?P<expected>.+?) but .+", re.DOTALL)


def looped(loss: Callable[..., Tensor], params: Tensors, x: Tensor) -> Tensors:
    """The gradients of every sample by plain autograd."""
    rows = []
    for sample in x:
        leaves = [param.detach().clone().requires_grad_() for param in params.values()]
        value = loss(dict(zip(params, leaves, strict=True)), sample.clone())
        rows.append(torch.autograd.grad(value, leaves, materialize_grads=True))
    columns = map(torch.stack, zip(*rows, strict=True))
    return dict(zip(params, columns, strict=True))


class AsModule(nn.Module):
    """A loss of the whole batch as the forward pass of a module."""

    def __init__(self, loss: Callable[..., Tensor], params: Tensors) -> None:
        super().__init__()
        self.own = nn.ParameterDict(
            {f"{k:02}": nn.Parameter(param.clone()) for k, param in enumerate(params.values())}
        )
        self._names, self._loss = list(params), loss

    def forward(self, x: Tensor) -> Tensor:
        return self._loss(dict(zip(self._names, self.own.values(), strict=True)), x)


def by_private_grad(loss: Callable[..., Tensor], params: Tensors, x: Tensor) -> Tensors:
    """The sum of all gradients through `PrivateGrad`, which clips and adds nothing."""
    private = dp.PrivateGrad(
        loss,
        clip=dp.Clip(1e6),
        noise=dp.GaussianNoise(0.0, key=dp.key(1)),
        expected_batch_size=1,
    )
    return private.update(params, x, private.init(params))[0]


def by_engine(loss: Callable[..., Tensor], params: Tensors, x: Tensor) -> Tensors:
    """The same through `PrivacyEngine` and an ordinary loop."""
    model = AsModule(loss, params)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = dp.PrivacyEngine(
        model,
        sample_size=len(x),
        batch_size=len(x),
        noise_multiplier=0.0,
        max_grad_norm=1e6,
        delta=1e-3,
        key=dp.key(1),
        loss_reduction="sum",
    ).attach(optimizer)
    for (batch,) in engine.loader(TensorDataset(x)):
        model(batch).sum().backward()
        optimizer.step()
    return {
        name: len(x) * param.grad
        for name, param in zip(params, model.own.values(), strict=True)
        if param.grad is not None
    }


def outcome(feature: Feature, entry: str) -> str:
    """`EXACT`, "wrong", or the words of the error, for a feature in one of the `ENTRIES`."""
    if entry != "one sample" and not feature.whole:
        return NOWHERE
    params = feature.params or {"w": numbers(1, 3, 3)}
    params = {name: param.detach().clone() for name, param in params.items()}
    x = numbers(2, SAMPLES, *feature.shape)
    run: Callable[..., Tensors] = by_engine if entry == "engine" else by_private_grad
    loss: Any = dp.batched(feature.loss) if entry == "whole batch" else feature.loss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = run(loss, params, x.clone())
        except Exception as error:  # whatever it is: its words are looked at
            return f"{type(error).__name__}: {error}"
        expected = looped(feature.loss, params, x)
    if feature.is_random:
        return EXACT  # tests/laws/test_l7b_draws.py has the values
    small = 1e-2 if "autocast" in str(feature.loss) else 1e-6
    for name, rows in expected.items():
        total = rows.sum(0)
        if float((found[name] - total).norm()) > small * float(rows.norm()) + 1e-12:
            return "wrong"
    return EXACT


def in_short(said: str) -> str:
    """What a table has room for: what was expected, where a feature is refused."""
    if said in (EXACT, NOWHERE):
        return said
    words = OWN_WORDS.fullmatch(said.partition(": ")[2])
    if words is None:
        return f"NOT IN OWN WORDS: {said[:80]}"
    inner = OWN_WORDS.search(said.partition(": ")[2][len("PrivacyEngine: ") :])
    expected = (inner or words)["expected"].rstrip(",")
    return f"refused: expected {expected}"


def table() -> str:
    """The lines between the marks of the page."""
    head = ["feature", *ENTRIES]
    rows = [[name, *(in_short(outcome(f, e)) for e in ENTRIES)] for name, f in FEATURES.items()]
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written() -> str:
    """What the page has between its marks."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    lines = table()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + lines + END + rest.partition(END)[2])
