"""L7 for chance: every spelling of a random operation is refused unless it is asked for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dpfunc as dp

REFUSED = "randomness error mode|vmap: we do not yet support"
P = 0.5
# Of those that PyTorch has by a name that says so: how they are called.
KINDS = {
    "dropout": lambda f, x: f(x.flatten(2) if f is F.dropout1d else x, P, True).view(x.shape),
    "bernoulli": lambda f, x: f(x.detach().sigmoid()) * x,
    "normal_": lambda f, x: f(x.detach().clone()) * x,
    "uniform_": lambda f, x: f(x.detach().clone()) * x,
    "exponential_": lambda f, x: f(x.detach().clone()) * x,
    "rand_like": lambda f, x: f(x) * x,
    "randn_like": lambda f, x: f(x) * x,
    "rrelu": lambda f, x: f(x - 9, training=True),
    "gumbel_softmax": lambda f, x: f(x),
}
PLACES = {"torch": torch, "Tensor": Tensor, "F": F}


def spellings():
    for place, space in PLACES.items():
        for name in dir(space):
            kind = next((kind for kind in KINDS if kind in name), None)
            own = kind == "dropout" or (kind is not None and name.rstrip("_") == kind.rstrip("_"))
            ours = own and not name.startswith("_") and name not in NOT_THOSE
            if ours and callable(getattr(space, name)):
                yield pytest.param(KINDS[kind], getattr(space, name), id=f"{place}.{name}")


NOT_THOSE = {"native_dropout", "normal"}


@pytest.mark.parametrize("whole", [True, False], ids=["whole batch", "one sample"])
@pytest.mark.parametrize(("call", "function"), list(spellings()))
def test_every_spelling_of_chance_is_refused_unless_asked_for(call, function, whole):
    params = {"w": torch.ones(4, 3, 5).double()}

    def losses(params, x):
        return (call(function, x * 1.0) * params["w"]).flatten(1).sum(1)

    loss = dp.batched(losses) if whole else lambda p, x: losses(p, x[None])[0]
    with pytest.raises(RuntimeError, match=REFUSED):
        dp.factored_grad(loss)(params, torch.linspace(-1, 1, 120).double().view(2, 4, 3, 5))


@pytest.mark.parametrize(
    "kind", [nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout]
)
@pytest.mark.parametrize("inplace", [False, True])
def test_modules_that_drop_are_refused_in_place_too(kind, inplace):
    layer = kind(P, inplace)
    loss = dp.batched(lambda p, x: (layer(x * 1.0) * p["w"]).flatten(1).sum(1))
    with pytest.raises(RuntimeError, match=REFUSED):
        dp.factored_grad(loss)({"w": torch.ones(3, 5)}, torch.ones(2, 3, 5))
