"""What running finds, beside samples that mix: each with the kind of loss that shows it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from tests.modules.checking.networks import Written, linear, samples, squared_error, squared_errors

X, Y = samples(8, 6), samples(8, 6, seed=2)


def by_module(model):
    return dp.check_module(model, batch=X)


def by_batch(model):
    return dp.check_module(model, squared_errors(model), batch=(X, Y))


def by_sample(model):
    return dp.check_module(model, squared_error(model), batch=(X, Y))


WAYS = pytest.mark.parametrize("check", [by_module, by_batch, by_sample])


def found(report):
    return [(at.path, at.severity) for at in report]


class Counter(nn.Module):
    """Remembers the data it has seen, and has a parameter that it does not use."""

    def __init__(self):
        super().__init__()
        self.inner = linear()
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("unknown", torch.tensor([float("nan")]))
        self.idle = nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.seen += x.detach().sum(0)
        return self.inner(x)


@WAYS
def test_nothing_is_found_in_a_sound_module(check):
    assert check(nn.Sequential(linear(), nn.ReLU(inplace=True), nn.LayerNorm(6), linear())) == []


@WAYS
def test_buffers_that_change_and_parameters_without_use(check):
    model = Counter()
    report = check(model)
    assert found(report) == [("seen", "error"), ("idle", "warning")]
    assert "this buffer changes" in report[0].what
    assert "does not use" in report[1].what
    assert not model.seen.any()
    assert all(param.grad is None for param in model.parameters())


@WAYS
def test_buffers_that_are_registered_in_forward(check):
    def forward(self, x):
        self.register_buffer("late", x.detach().sum())
        return self.a(x)

    model = Written(forward, a=linear())
    assert found(check(model)) == [("late", "error")]
    assert list(model.buffers()) == []


@WAYS
def test_parameters_that_change_in_forward(check):
    def forward(self, x):
        with torch.no_grad():
            self.a.weight.renorm_(2, 0, 0.1)
        return self.a(x)

    model = Written(forward, a=linear())
    before = model.a.weight.detach().clone()
    (problem,) = check(model)
    assert (problem.path, problem.severity) == ("a.weight", "error")
    assert "changed in the forward pass itself" in problem.what
    assert torch.equal(model.a.weight, before)


def test_an_embedding_with_max_norm_is_told_once():
    model = nn.Sequential(nn.Embedding(9, 3, max_norm=0.1))
    before = model[0].weight.detach().clone()
    report = dp.check_module(model, batch=torch.arange(8).reshape(8, 1))
    assert found(report) == [("0", "error")]
    assert torch.equal(model[0].weight, before)


@WAYS
def test_attributes_that_keep_data(check):
    def forward(self, x):
        self.average = 0.9 * self.average + x.detach().mean()
        self.counted = self.counted + 1
        return self.a(x)

    model = Written(forward, a=linear(), average=torch.zeros(()), counted=torch.zeros(()))
    report = check(model)
    assert found(report) == [("average", "warning")]
    assert "keeps what the forward pass has computed" in report[0].what
    assert model.average == 0


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@WAYS
def test_an_attribute_that_follows_the_parameters_is_fine(check):
    assert check(nn.Sequential(nn.utils.weight_norm(linear()))) == []


@WAYS
def test_data_that_are_changed_in_place(check):
    x = X.clone()
    report = check(nn.Sequential(nn.ReLU(inplace=True), linear()))
    expected = [("", "warning")]
    if check is by_batch:  # the engine refuses it, in its own words
        expected = [("", "error"), *expected]
        assert "changes a tensor of the batch in place" in report[0].what
    assert found(report) == expected
    assert "tensor 0 of the batch is changed in place" in report[-1].what
    assert torch.equal(X, x)


@WAYS
def test_results_that_depend_on_chance(check):
    report = check(Written(lambda self, x: self.a(x + torch.randn_like(x)), a=linear()))
    assert [at.severity for at in report][-1] == "warning"
    assert "with dropout left out" in report[-1].what


@WAYS
def test_dropout_is_told_by_looking_and_does_not_count_as_chance(check):
    report = check(nn.Sequential(linear(), nn.Dropout(0.5)))
    assert found(report) == [("1", "warning")]
    assert "dropout masks" in report[0].what


@WAYS
def test_a_layer_that_chance_leaves_out_is_in_use(check):
    def forward(self, x):
        return self.a(x) if torch.rand(()) < 0.5 else self.b(x)

    model = Written(forward, a=linear(), b=linear())
    for seed in range(20):  # each decides otherwise; with three runs one in four leaves out a layer
        torch.manual_seed(seed)
        if not any("does not use" in at.what for at in check(model)):
            return
    pytest.fail("the layers are never both in use")


@WAYS
def test_what_raises_is_told_with_its_layer(check):
    report = check(nn.Sequential(linear(), nn.Sequential(nn.Linear(5, 6))))
    assert found(report) == [("1.0", "error")]
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in report[0].what


def test_what_raises_later_keeps_what_was_found_before():
    def forward(self, x):
        if torch.equal(x[0], x[1]):  # as they are when the one is replaced by the other
            raise ValueError("two samples alike")
        self.seen += 1
        return self.a(x)

    model = Written(forward, a=linear())
    model.register_buffer("seen", torch.zeros(()))
    report = by_module(model)
    assert found(report) == [("seen", "error"), ("", "error")]
    assert "ValueError: two samples alike" in report[1].what


def test_a_loss_that_raises_is_told():
    (problem,) = dp.check_module(linear(), lambda params, x, y: 1 / 0, batch=(X, Y))
    assert "ZeroDivisionError: division by zero" in problem.what
    (problem,) = dp.check_module(linear(), lambda params, x: x, batch=X)
    assert "expected a scalar" in problem.what


def test_a_loss_that_the_engine_refuses_is_told_in_its_words():
    model = linear()

    def branches(params, x, y):
        loss = squared_error(model)(params, x, y)
        return loss if x.sum() > 0 else 2 * loss

    (problem,) = dp.check_module(model, branches, batch=(X, Y))
    assert problem.what.startswith("the engine refuses it: ")
    assert "data-dependent control flow" in problem.what


def test_the_engine_learns_nothing_for_the_loss_of_the_user():
    model = linear()
    loss_fn = squared_errors(model)
    assert dp.check_module(model, loss_fn, batch=(X, Y)) == []
    assert loss_fn.verified == {}


def test_results_without_samples_cannot_be_compared():
    report = by_module(Written(lambda self, x: {"loss": self.a(x).mean(), "y": x}, a=linear()))
    assert found(report) == [("", "warning")]
    assert "no axis of samples: ()" in report[0].what
    (nothing,) = by_module(Written(lambda self, x: None))
    assert "no axis of samples: no tensor" in nothing.what


def test_results_that_are_not_numbers_cannot_be_compared():
    report = by_module(Written(lambda self, x: self.a(x).sqrt(), a=linear()))
    assert found(report) == [("", "warning")]
    assert "not a number" in report[0].what


def test_scripted_parts_are_run_too():
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(nn.Sequential(linear()))
    report = by_module(nn.Sequential(linear(), scripted))
    assert found(report) == [("1", "error")]


def test_models_of_hugging_face_take_keywords():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=50,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    tokens = dp.permutation(dp.key(3), 48).reshape(6, 8)
    mask = (torch.arange(8) < torch.tensor([8, 3, 8, 5, 7, 8])[:, None]).long()
    batch = {"input_ids": tokens, "attention_mask": mask}
    assert dp.check_module(model, batch=batch) == []
    labelled = dp.check_module(model, batch={**batch, "labels": torch.arange(6) % 2})
    assert [at.what for at in labelled] == ["what is returned has no axis of samples: ()"]

    def losses(params, input_ids, attention_mask, labels):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        logits = torch.func.functional_call(model, params, (), inputs).logits
        return F.cross_entropy(logits, labels, reduction="none")

    report = dp.check_module(model, dp.batched(losses), batch=(tokens, mask, torch.arange(6) % 2))
    assert report == []
