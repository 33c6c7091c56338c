import pytest
import torch
from torch import nn

from dpfunc.modules.checking.calls import Call, Recorder, first_that_mixes, moved_rows, place_of
from dpfunc.persample.whole_batch.places import Place
from tests.modules.checking.networks import Written, linear, samples


def test_calls_are_recorded_innermost_first_with_copies():
    model = nn.Sequential(nn.Linear(6, 2), nn.ReLU(inplace=True), nn.Sequential(nn.ReLU()))
    recorder = Recorder()
    with recorder.watching(model):
        result = model(samples(3, 6))
    assert [call.path for call in recorder.calls] == ["0", "1", "2.0", "2", ""]
    linear_result = recorder.calls[0].outputs[0]
    assert (linear_result < 0).any()  # a copy from before the ReLU wrote to it
    assert torch.equal(recorder.calls[1].inputs[0], linear_result)
    assert torch.equal(recorder.calls[-1].outputs[0], result)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


def test_keyword_inputs_and_nested_outputs_are_recorded():
    model = Written(lambda self, *, x, y: {"sum": (x + y, [x])})
    recorder = Recorder()
    with recorder.watching(model):
        model(x=torch.ones(2), y=torch.zeros(3, 2))
    (call,) = recorder.calls
    assert [tuple(part.shape) for part in call.inputs] == [(2,), (3, 2)]
    assert [tuple(part.shape) for part in call.outputs] == [(3, 2), (2,)]


def test_what_runs_when_something_raises_is_known():
    model = nn.Sequential(linear(), nn.Sequential(nn.Linear(5, 5)))
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), recorder.watching(model):
        model(samples(3, 6))
    assert [path for path, _ in recorder.running] == ["", "1", "1.0"]
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((5, 4), Place(0, 1)),
        ((4, 10), Place(1, 2)),
        ((4,), None),
        ((), None),
        ((0, 5), Place(1, 1)),
    ],
)
def test_the_axis_of_samples_is_found_by_division(shape, place):
    assert place_of(torch.zeros(shape), 5) == place


def changed(values, where, by):
    values = values.clone()
    values[where] += by
    return values


BASE = samples(3, 4)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (BASE, BASE, [False, False, False]),
        (BASE, changed(BASE, (1, 2), 0.01), [False, True, False]),
        (BASE, changed(BASE, (1, 2), 1e-6), [False, False, False]),
        (BASE.double(), changed(BASE.double(), (1, 2), 1e-6), [False, True, False]),
        (BASE.t(), changed(BASE.t(), (2, 1), 0.01), [False, True, False]),
        (BASE, changed(BASE, (0, 0), float("nan")), [True, False, False]),
        (BASE, changed(BASE, (2, 0), float("inf")), [False, False, True]),
        (torch.arange(3), torch.tensor([0, 1, 3]), [False, False, True]),
        (torch.ones(4), torch.zeros(4), [True, True, True]),  # no axis of samples
        (BASE, BASE[:2], [True, True, True]),
        (BASE, BASE.double(), [True, True, True]),
        (torch.zeros(3, 0), torch.zeros(3, 0), [False, False, False]),
        (torch.zeros(3), torch.full((3,), 1e-30), [True, True, True]),
        (BASE.to(torch.complex64), BASE * (1 + 0.1j), [True, True, True]),
        (BASE.to_sparse(), BASE.to_sparse(), [False, False, False]),
    ],
)
def test_which_samples_have_moved(before, after, moved):
    assert moved_rows([before], [after], 3).tolist() == moved


def test_nan_and_infinity_that_stay_have_not_moved():
    odd = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [0.0, 1.0]])
    assert not moved_rows([odd], [odd.clone()], 3).any()


def test_another_number_of_tensors_has_moved_for_all():
    assert moved_rows([BASE], [BASE, BASE], 3).all()


def call(path, inputs, outputs):
    return Call(path, [inputs], [outputs])


def test_the_first_layer_that_mixes_got_the_same_and_returned_something_else():
    same, other = BASE, BASE + 1
    before = [call("a", same, same), call("b", same, same), call("c", same, same)]
    after = [call("a", same, same), call("b", same, other), call("c", other, other)]
    assert first_that_mixes(before, after, sample=0, size=3) == "b"
    assert first_that_mixes(before, before, sample=0, size=3) is None
    given_others = [call("a", other, other), call("b", same, same), call("", same, other)]
    assert (
        first_that_mixes(before[:2] + [call("", same, same)], given_others, sample=0, size=3) == ""
    )


def test_other_calls_than_before_end_the_search():
    before = [call("a", BASE, BASE), call("b", BASE, BASE)]
    after = [call("a", BASE, BASE), call("c", BASE, BASE + 1)]
    assert first_that_mixes(before, after, sample=0, size=3) is None
