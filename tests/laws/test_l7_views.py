"""L7 for views of a parameter: of every kind, square and not, in either order of memory."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from dpfunc.persample.factors import outer
from dpfunc.persample.factors.views import VIEWS
from tests.laws.losses import told_apart
from tests.laws.test_l7_oracle import assert_exact, draw

# By name, the arguments after the tensor, in several ways where they make a difference.
ARGUMENTS = {
    "T": [],
    "mT": [],
    "contiguous": [()],
    "flatten": [(), (0, 1)],
    "movedim": [(0, 1), (0, 0)],
    "permute": [((1, 0),), ((0, 1),)],
    "reshape": [((2, -1),), ((-1, 4),), ((4, -1),), ((-1,),)],
    "squeeze": [(), (0,)],
    "swapaxes": [(0, 1)],
    "t": [()],
    "transpose": [(0, 1), (1, 0), (-1, -1)],
    "unflatten": [(0, (2, -1)), (1, (-1, 2))],
    "unsqueeze": [(0,), (2,)],
    "view": [((2, -1),), ((4, -1),), ((-1,),)],
}
PROPERTIES = {"T": Tensor.T.__get__, "mT": Tensor.mT.__get__}
FUNCTIONS = [
    (function, given)
    for name, ways in ARGUMENTS.items()
    for function in (
        [PROPERTIES[name]]
        if name in PROPERTIES
        else [getattr(at, name) for at in (torch, Tensor) if hasattr(at, name)]
    )
    for given in ways or [()]
]
TENSORS = [((4, 4), "C"), ((4, 4), "F"), ((6, 4), "C"), ((6, 4), "F"), ((1, 4), "C"), ((4, 1), "C")]


def ordered(order: str, *shape: int) -> Tensor:
    values = draw(1, *shape)
    return values if order == "C" else values.mT.contiguous().mT


def used(view: Tensor, x: Tensor) -> Tensor:
    """As the matrix of a linear map, brought into that shape first where it is none."""
    if view.dim() == 1:
        view = view.unsqueeze(0)
    matrix = view if view.dim() == 2 else view.flatten(0, -2)
    return told_apart(x[:, : matrix.shape[0]] @ matrix)


def has_it(function, given, shape: tuple[int, ...], order: str) -> bool:
    """Whether PyTorch has this view of such a tensor."""
    try:
        function(ordered(order, *shape), *given)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("function", "given", "shape", "order"),
    [
        pytest.param(*case, *tensor, id=f"{case[0].__name__}{case[1]} of {tensor}")
        for case in FUNCTIONS
        for tensor in TENSORS
        if has_it(*case, *tensor)
    ],
)
def test_exact(function, given, shape, order):
    """With the factors kept apart; and formed, where a matrix is square."""
    for gram in (True, False) if shape == (4, 4) else (True,):
        with mock.patch.object(outer, "prefers_gram", return_value=gram):
            assert_exact(
                lambda p, x: used(function(p["w"], *given), x),
                {"w": ordered(order, *shape)},
                draw(2, 2, 3, 24),
            )


def test_every_view_is_among_them():
    tried = {function for function, _ in FUNCTIONS}
    assert {function for function in VIEWS if function not in tried} == set()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(4, 4), (6, 4)], ids=str)
def test_views_of_views(shape, order):
    """A transpose undone, and one that is not the transpose though it looks like it."""

    def loss_fn(params, x):
        w = params["w"]
        ways = (w.T.contiguous().T, w.mT.reshape(w.shape), w.contiguous(), w.T.reshape(w.shape).T)
        return sum(used(way, x) * (k + 1.5) for k, way in enumerate(ways))

    assert_exact(loss_fn, {"w": ordered(order, *shape)}, draw(2, 2, 3, 24))
