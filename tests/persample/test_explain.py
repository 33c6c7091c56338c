"""What `explain` tells of each parameter is what the engine does."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dpfunc as dp


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.conv = nn.Conv1d(8, 4, 3)
        self.bend = nn.PReLU()
        self.norm = nn.LayerNorm(8)
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, tokens):
        x = self.bend(self.norm(self.table(tokens)))
        return F.linear(x, self.table.weight).sum() + self.conv(x.mT).square().sum()


def rows():
    model = Model()

    def loss_fn(params, tokens):
        return functional_call(model, params, (tokens[None],))

    tokens = torch.arange(20).reshape(2, 10)
    explanation = dp.explain(loss_fn, dp.named_params(model), tokens)
    return {row.parameter: row for row in explanation.rows}, str(explanation)


def test_each_parameter_has_its_operations_form_and_size():
    by_name, _ = rows()
    table = by_name["table.weight"]
    assert (table.operations, table.form, table.fell_back) == ("embedding, linear", "Sum", False)
    assert table.numbers == 50 * 8 + (10 + 10 * 8)  # formed, and as rows of the table
    conv = by_name["conv.weight"]
    assert (conv.operations, conv.form, conv.numbers) == ("conv1d", "Dense", 4 * 8 * 3)
    assert by_name["idle"].operations == "none"


def test_a_parameter_without_a_rule_is_said_to_fall_back():
    by_name, text = rows()
    assert [row.parameter for row in by_name.values() if row.fell_back] == ["bend.weight"]
    assert by_name["bend.weight"].operations == "prelu"
    assert text.splitlines()[0].startswith("parameter")
    assert len(text.splitlines()) == 1 + len(by_name)
