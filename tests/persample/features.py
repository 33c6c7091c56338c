"""Features of PyTorch inside a loss, and what each mode of the factored engine makes of them.

A loss here sums over the last axes alone, so one function serves as the loss of a sample and, with
the batch axis in front, as the losses of a batch.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import dpfunc as dp
from dpfunc.types import Tensors

EXACT = "exact"
Loss = Callable[[Tensors, Tensor], Tensor]


class Feature(NamedTuple):
    """``by_vmap`` and ``by_batch``: `EXACT`, words of the error, or None where not applicable."""

    loss: Loss
    by_vmap: str | None = EXACT
    by_batch: str | None = EXACT
    shape: tuple[int, ...] = (3,)
    params: Tensors | None = None
    is_random: bool = False

    @property
    def whole(self) -> bool:
        """Whether the loss is one of a whole batch as well."""
        return self.by_batch is not None or self.is_for_batches

    @property
    def is_for_batches(self) -> bool:
        """Whether it is, although its values are not those of plain autograd."""
        return self.by_vmap is None


def numbers(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


def _size(y: Tensor) -> Tensor:
    """The sum of squares over the last axis."""
    return y.square().sum(-1)


def _of_module(module: nn.Module, axes: int = 1) -> dict[str, Any]:
    """The loss and the parameters of a module that takes ``[B, ...]``; ``axes`` of a sample."""
    module = module.double()

    def loss(params: Tensors, x: Tensor) -> Tensor:
        alone = x.dim() == axes
        output = functional_call(module, params, (x[None] if alone else x,))
        losses = output.square().flatten(1).sum(1)
        return losses[0] if alone else losses

    return {"loss": loss, "params": dp.named_params(module)}


class Cube(torch.autograd.Function):
    """In the old style, without setup_context."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad


class Product(torch.autograd.Function):
    """``x * w``, with a rule for vmap."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, w):
        return x * w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad * w, grad * x


def _no_grad(params: Tensors, x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = F.linear(x, params["w"])
    return _size(F.linear(x, params["w"]) * scale)


def _grad_of_sample_by_autograd(params: Tensors, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(_size(F.linear(x, params["w"])).sum(), x, create_graph=True)
    return _size(grad)


def _hooked(params: Tensors, x: Tensor) -> Tensor:
    y = F.linear(x, params["w"])
    y.register_hook(lambda grad: 2 * grad)
    return _size(y)


def _changed_in_place(params: Tensors, x: Tensor) -> Tensor:
    with torch.no_grad():
        params["w"].mul_(1.0)
    return _size(F.linear(x, params["w"]))


def _under_autocast(params: Tensors, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = F.linear(x.float(), params["w"].float())
    return _size(y.double())


def _reads_requires_grad(params: Tensors, x: Tensor) -> Tensor:
    y = F.linear(x, params["w"])
    return _size(y) if y.requires_grad and not x.requires_grad else y.sum(-1)


def _with_a_backward_hook() -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[1].register_full_backward_hook(lambda module, inner, outer: (2 * inner[0],))
    return _of_module(model)


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def _parametrized(layer: nn.Module, axes: int = 1) -> dict[str, Any]:
    nn.utils.parametrize.register_parametrization(layer, "weight", _Doubled())
    return _of_module(layer, axes)


def _masked_attention(params: Tensors, x: Tensor) -> Tensor:
    heads = (x @ params["w"])[None, None]
    return F.scaled_dot_product_attention(heads, heads, heads, params["m"]).square().sum()


def _in_a_thread(params: Tensors, x: Tensor) -> Tensor:
    results: list[Tensor] = []
    thread = threading.Thread(target=lambda: results.append(params["w"].square().sum()))
    thread.start()
    thread.join()
    return _size(F.linear(x, params["w"])) + results[0]


def _without_torch_function(params: Tensors, x: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return _size(F.linear(x, params["w"]))


def _cond(params: Tensors, x: Tensor) -> Tensor:
    operands = (x, params["w"])
    return torch.cond(
        x.sum() > 0, lambda x, w: _size(F.linear(x, w)), lambda x, w: (w @ x).sum(), operands
    )


def _nested(params: Tensors, x: Tensor) -> Tensor:
    rows = x.unbind(-2)
    ragged = torch.nested.as_nested_tensor([rows[0][None], x], layout=torch.jagged)
    return _size(F.linear(ragged, params["w"]).values()).sum(-1)


def _routed_by_mask(params: Tensors, x: Tensor) -> Tensor:
    y, large = torch.zeros_like(x), x.sum(-1) > 0
    y[large] = F.linear(x[large], params["w"])
    return _size(y)


def _masked_entries(params: Tensors, x: Tensor) -> Tensor:
    y = F.linear(x, params["w"])
    y[y > 0.5] = 0.0
    return _size(y)


def _adaptive_softmax(params: Tensors, x: Tensor) -> Tensor:
    words = (x.sum(-1) > 0).long().reshape(-1) * 4
    output = functional_call(_ADAPTIVE_SOFTMAX, params, (x.reshape(-1, 4), words))
    return output.output.reshape(x.shape[:-1])


def _packed(params: Tensors, x: Tensor) -> Tensor:
    sequences = x.reshape(-1, 3, 3)
    packed = nn.utils.rnn.pack_padded_sequence(
        sequences, torch.full((len(sequences),), 2), batch_first=True
    )
    output, _ = functional_call(_LSTM, params, (packed,))
    padded, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    return padded.square().sum((1, 2)).reshape(x.shape[:-2])


def _with_forward_hooks() -> nn.Module:
    layer = nn.Linear(3, 3)
    layer.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    layer.register_forward_hook(lambda module, args, output: output.tanh())
    return layer


class _Checkpointed(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.layer, x, use_reentrant=False).tanh()


_ADAPTIVE_SOFTMAX = nn.AdaptiveLogSoftmaxWithLoss(4, 6, [3]).double()
_LSTM = nn.LSTM(3, 4, batch_first=True).double()
_ENCODER = nn.TransformerEncoder(
    nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), 1
)

FEATURES: dict[str, Feature] = {
    # Derivatives inside the loss
    "`torch.func.grad` of the sample": Feature(
        lambda p, x: _size(torch.func.grad(lambda z: _size(F.linear(z, p["w"])))(x)),
        "expected a loss without derivatives",
        None,
    ),
    "`torch.func.grad` of the parameters": Feature(
        lambda p, x: _size(torch.func.grad(lambda w: _size(w @ x))(p["w"])).sum(),
        "expected a loss without derivatives",
        None,
    ),
    "`torch.func.jvp`": Feature(
        lambda p, x: _size(torch.func.jvp(lambda z: F.linear(z, p["w"]).tanh(), (x,), (x,))[1]),
        "expected a loss without derivatives",
        None,
    ),
    "`torch.autograd.grad`": Feature(
        _grad_of_sample_by_autograd,
        r"Tensor.requires_grad_\(\)",
        "expected a loss without derivatives",
    ),
    "`torch.func.vmap` over data": Feature(
        lambda p, x: torch.func.vmap(lambda row: _size(F.linear(row, p["w"])))(x).sum(-1),
        by_batch=None,
        shape=(5, 3),
    ),
    "`torch.func.vmap` over a parameter": Feature(
        lambda p, x: torch.func.vmap(lambda row: (row * x).sum())(p["w"]).square().sum(),
        "expected torch functions to use",
        None,
    ),
    "custom `autograd.Function` of activations": Feature(
        lambda p, x: Cube.apply(F.linear(x, p["w"])).sum(-1), "must override the setup_context"
    ),
    "custom `autograd.Function` of a parameter, with a vmap rule": Feature(
        lambda p, x: _size(Product.apply(x, p["w"][0])), EXACT, "torch functions to use"
    ),
    "`no_grad` and `detach`": Feature(_no_grad),
    # Modules
    "spectral norm in training mode": Feature(
        **_of_module(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))),
        by_vmap="div",
        by_batch="div",
    ),
    "forward hooks of modules": Feature(**_of_module(_with_forward_hooks())),
    "`Tensor.register_hook`": Feature(_hooked, by_batch="cannot register a hook"),
    "`nn.DataParallel`": Feature(
        **_of_module(nn.DataParallel(nn.Linear(3, 3))),
        by_vmap="stateless API",
        by_batch="stateless API",
    ),
    "BatchNorm in training mode": Feature(
        **_of_module(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))),
        by_vmap="more than 1 value per channel",
        by_batch="more than 1 value per channel",
    ),
    "InstanceNorm with running statistics": Feature(
        **_of_module(nn.InstanceNorm1d(3, affine=True, track_running_stats=True), axes=2),
        by_vmap="running_mean",
        by_batch="single memory location",
        shape=(3, 5),
    ),
    "channels_last": Feature(
        **_of_module(nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last), axes=3),
        shape=(2, 4, 4),
    ),
    "TransformerEncoder in eval mode": Feature(**_of_module(_ENCODER.eval(), axes=2), shape=(5, 4)),
    "packed sequences": Feature(_packed, EXACT, "packed sequences", (3, 3), dp.named_params(_LSTM)),
    # Compilation, memory and precision
    "`torch.compile` of the loss": Feature(
        torch.compile(lambda p, x: _size(F.linear(x, p["w"])), backend="eager")
    ),
    "`torch.compile` of a part of the loss": Feature(
        lambda p, x: _size(torch.compile(torch.sin, backend="aot_eager")(F.linear(x, p["w"])))
    ),
    "non-reentrant checkpoint": Feature(
        lambda p, x: _size(
            checkpoint(lambda x, w: F.linear(x, w).tanh(), x, p["w"], use_reentrant=False)
        ),
        "escaped",
    ),
    "non-reentrant checkpoint of a module": Feature(
        **_of_module(_Checkpointed(nn.Conv1d(2, 3, 2)), axes=2), by_vmap="escaped", shape=(2, 5)
    ),
    "reentrant checkpoint": Feature(
        lambda p, x: _size(checkpoint(torch.tanh, F.linear(x, p["w"]), use_reentrant=True)),
        "setup_context",
        "incompatible with .grad()",
    ),
    "autocast inside the loss": Feature(_under_autocast, None, None),
    "fake quantisation": Feature(
        lambda p, x: _size(
            F.linear(
                x, torch.fake_quantize_per_tensor_affine(p["w"].float(), 0.1, 0, -9, 9).double()
            )
        ),
        by_vmap=None,
    ),
    # Parameters in unusual clothes
    "a parameter changed in place": Feature(
        _changed_in_place, "single memory location", "a parameter in place"
    ),
    "`param.data`": Feature(
        lambda p, x: _size(F.linear(x, p["w"])) * p["w"].data.sum(), "accessing `data`"
    ),
    "`param.item()`": Feature(
        lambda p, x: _size(F.linear(x, p["w"])) * p["w"][0, 0].item(), "item"
    ),
    "a parameter made sparse": Feature(
        lambda p, x: _size(torch.sparse.mm(p["w"].to_sparse(), x[..., None])[..., 0]),
        "Sparse",
        None,
    ),
    "a parameter in another thread": Feature(
        _in_a_thread, "expected torch functions to use", "expected torch functions to use"
    ),
    "`DisableTorchFunction`": Feature(
        _without_torch_function,
        "expected torch functions to use",
        "expected torch functions to use",
    ),
    # Data
    "control flow on data": Feature(
        lambda p, x: _size(F.linear(x, p["w"])) if x.sum() < 1e9 else x.sum(-1),
        "data-dependent control flow",
    ),
    "`x.item()`": Feature(
        lambda p, x: _size(F.linear(x, p["w"])) * x.sum().item(), "item", "alone as in a batch"
    ),
    "`torch.where`": Feature(
        lambda p, x: torch.where(x.sum(-1) > 0, _size(F.linear(x, p["w"])), x.sum(-1))
    ),
    "`torch.cond`": Feature(_cond, by_batch=None),
    "random operations": Feature(
        lambda p, x: _size(F.linear(x * torch.rand_like(x), p["w"])),
        "randomness error mode",
        "randomness error mode",
        is_random=True,
    ),
    "rows chosen by data": Feature(lambda p, x: p["w"][(x > 0).long()].sum((-1, -2)) * x.sum(-1)),
    "samples routed by a boolean mask": Feature(_routed_by_mask, "boolean mask|dynamic shape", ""),
    "`nn.AdaptiveLogSoftmaxWithLoss`": Feature(
        _adaptive_softmax,
        "dynamic shape",
        "in their order",
        (4,),
        dp.named_params(_ADAPTIVE_SOFTMAX),
    ),
    "entries masked by a boolean index": Feature(_masked_entries),
    "nested tensors": Feature(_nested, "nested|Nested", "", (5, 3)),
    "code that reads requires_grad": Feature(_reads_requires_grad),
    "a full backward hook of a module": Feature(**_with_a_backward_hook(), by_vmap="setup_context"),
    "complex parameters": Feature(
        lambda p, x: _size((x.to(p["w"].dtype) @ p["w"]).abs()),
        "expected real parameters",
        "expected real parameters",
        params={"w": torch.complex(numbers(1, 3, 3), numbers(3, 3, 3))},
    ),
    "a bias of one number": Feature(
        lambda p, x: _size(F.linear(x, p["w"], p["b"])),
        params={"w": numbers(1, 3, 3), "b": numbers(3, 1)},
    ),
    "data changed in place": Feature(
        lambda p, x: _size(F.linear(x.mul(1.0).add_(1.0), p["w"])),
    ),
    "the batch itself changed in place": Feature(
        lambda p, x: _size(F.linear(x.add_(1.0), p["w"])), None, "leave its data as it is"
    ),
    "weight norm": Feature(**_of_module(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))),
    "a parametrized layer": Feature(**_parametrized(nn.Linear(3, 2))),
    "a parametrized convolution": Feature(**_parametrized(nn.Conv1d(2, 3, 2), 2), shape=(2, 5)),
    "a linear map made from data": Feature(
        lambda p, x: _size(F.linear(x, torch.outer(x, x) @ p["w"], p["b"])),
        by_batch=None,
        params={"w": numbers(1, 3, 3), "b": numbers(3, 3)[0]},
    ),
    "mm with keywords": Feature(
        lambda p, x: _size(torch.mm(input=x[None], mat2=p["w"])[0]), by_batch=None
    ),
    "attention with a parameter as its mask": Feature(
        _masked_attention,
        by_batch=None,
        shape=(5, 3),
        params={"w": numbers(1, 3, 3), "m": numbers(4, 5, 5)},
    ),
    "complex activations": Feature(
        lambda p, x: torch.fft.fft(F.linear(x, p["w"])).abs().square().sum(-1)
    ),
    "a complex tensor made of a parameter": Feature(
        lambda p, x: _size(F.linear(torch.fft.fft(x), torch.complex(p["w"], p["w"].T)).abs())
    ),
}
