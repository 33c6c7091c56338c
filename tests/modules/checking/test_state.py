import pytest
import torch
from torch import nn

from dpfunc.modules.checking.state import Kept, cells, same
from tests.modules.checking.networks import Written, linear, samples


class Restless(nn.Module):
    """Changes everything that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.inner = linear()
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("unknown", torch.tensor([float("nan")]))
        self.register_buffer("absent", None)
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.steps = 0
        self.cache = {}
        self.trace = [torch.zeros(1)]
        self.kinds = {"a"}
        self.average = torch.zeros(6)

    def forward(self, x):
        self.inner.training = False
        self.seen += x.sum(0)
        self.sparse.mul_(2.0)
        self.register_buffer("late", x.sum())
        self.absent = x.detach()
        self.steps += 1
        self.cache["last"] = x.detach()
        self.trace.append(x.detach())
        self.trace[0] += 1
        self.kinds.add("b")
        self.average = 0.9 * self.average + x.mean(0)
        self.extra = linear()
        self.fresh = x.detach()
        self.note = "new"
        with torch.no_grad():
            self.inner.weight.mul_(2.0)
        self.inner.bias.data = torch.ones(3)
        self.inner.register_forward_hook(print)
        return x


def everything(model):
    """All of a module that can be compared, by value."""
    found = {f"{cell.kind} {cell.name}": cell.tensor.clone() for cell in cells(model)}
    plain = {
        (path, name): (type(value), len(value) if hasattr(value, "__len__") else value)
        for path, layer in model.named_modules()
        for name, value in vars(layer).items()
        if not isinstance(value, torch.Tensor)
    }
    return found, plain


def assert_unchanged(model, before):
    found, plain = everything(model)
    assert plain == before[1]
    assert found.keys() == before[0].keys()
    assert all(same(found[name], value) for name, value in before[0].items())


def test_everything_is_put_back():
    model = Restless()
    before, parameters = everything(model), list(model.parameters())
    kept = Kept(model, set())
    for _ in range(2):
        model(samples(4, 6))
        assert model.steps == 1
        kept.restore()
        assert_unchanged(model, before)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert model.training
    assert model.inner.training
    assert not model.inner._forward_hooks


def test_changes_are_told_by_name_and_kind():
    model = Restless()
    kept = Kept(model, set())
    assert kept.changes() == []
    model(samples(4, 6))
    found = {(cell.kind, cell.name) for cell in kept.changes()}
    assert found >= {
        ("parameter", "inner.weight"),
        ("parameter", "inner.bias"),
        ("buffer", "seen"),
        ("buffer", "sparse"),
        ("buffer", "late"),
        ("buffer", "absent"),
        ("attribute", "average"),
        ("attribute", "fresh"),
        ("attribute", "trace[0]"),
        ("attribute", "trace[1]"),
        ("attribute", "cache['last']"),
    }
    assert ("buffer", "unknown") not in found


def test_a_tensor_replaced_by_its_equal_is_no_change_and_is_put_back():
    model = Written(lambda self, x: x, scale=torch.ones(2))
    scale, kept = model.scale, Kept(model, set())
    model.scale = model.scale.clone()
    assert kept.changes() == []
    kept.restore()
    assert model.scale is scale


def test_generators_are_put_back():
    kept = Kept(linear(), {torch.device("cpu"), torch.device("meta")})
    first = torch.rand(3)
    kept.restore_generators()
    assert torch.equal(torch.rand(3), first)


def test_nothing_is_written_where_nothing_has_changed():
    model = linear()
    versions = [param._version for param in model.parameters()]
    kept = Kept(model, set())
    model(samples(4, 6))
    kept.restore()
    assert [param._version for param in model.parameters()] == versions


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]), True),
        (torch.tensor([1.0]), torch.tensor([float("nan")]), False),
        (torch.ones(2), torch.ones(2, 1), False),
        (torch.ones(2), torch.ones(2).double(), False),
        (torch.ones(2).to_sparse(), torch.ones(2).to_sparse(), True),
        (torch.ones(2).to_sparse(), torch.zeros(2).to_sparse(), False),
        (torch.ones(0), torch.ones(0), True),
    ],
)
def test_same_is_number_by_number(left, right, equal):
    assert same(left, right) is equal
