"""L7, for large tables: a look compares the rows that are used, and misses none of them."""

import pytest
import torch
import torch.nn.functional as F

import dpfunc as dp
from dpfunc.persample.factors.closeness import close, used_rows

ROWS = 3000
IDS = torch.arange(6 * 2).reshape(6, 2) * 37


def table():
    return torch.arange(ROWS * 3.0).reshape(ROWS, 3).cos()


@pytest.mark.parametrize("value", [1.0, -1.0, float("nan")])
def test_a_row_that_is_zero_in_one_of_two_tables_counts(value):
    one, other = torch.zeros(ROWS, 3), torch.zeros(ROWS, 3)
    one[5, 0], other[7, 2] = 1.0, value
    assert not close(one, other, 1e-3, floor=1e-3)
    assert not close(other, one, 1e-3, floor=1e-3)
    assert close(one, one.clone(), 1e-3, floor=0.0)
    assert [len(rows) for rows in used_rows(one, other)] == [2, 2]


def test_samples_that_share_a_lookup_of_a_large_table_are_refused():
    def mixing(params, ids):
        rows = F.embedding(ids, params["t"]).sum(1)
        return ((rows + 1e-2 * rows.mean(0)) * torch.tensor([1.0, -2.0, 0.5])).sum(1)

    with pytest.raises(RuntimeError, match="batched: expected"):
        dp.factored_grad(dp.batched(mixing))({"t": table()}, IDS)


def test_a_large_table_is_exact():
    def loss(params, ids):
        return (F.embedding(ids, params["t"]).sum(1) * torch.tensor([1.0, -2.0, 0.5])).sum(1)

    grads, _ = dp.factored_grad(dp.batched(loss))({"t": table()}, IDS)
    expected = torch.zeros(6, ROWS, 3)
    for sample, ids in enumerate(IDS.tolist()):
        for row in ids:
            expected[sample, row] += torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(grads["t"].dense(), expected)
