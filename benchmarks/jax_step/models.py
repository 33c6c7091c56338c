"""The workloads written in JAX: parameters, a batch, and the mean loss over it.

Channels last, as XLA wants them on a CPU; the sizes are those of `benchmarks.workloads`.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = dict[str, Any]


class JaxWorkload(NamedTuple):
    """``logits(params, inputs [B, ...]) -> [B, classes]`` or ``[B, T, words]``."""

    params: Params
    inputs: jax.Array
    labels: jax.Array
    logits: Callable[[Params, jax.Array], jax.Array]

    def loss(self, params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(
            self.logits(params, inputs), labels
        )
        return losses.mean()


_RANDOM = np.random.default_rng(0)


def _normal(*shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(_RANDOM.standard_normal(shape, dtype=np.float32) * scale)


def _integers(high: int, *shape: int) -> jax.Array:
    return jnp.asarray(_RANDOM.integers(high, size=shape, dtype=np.int32))


def _dense(inner: int, outer: int) -> Params:
    return {"w": _normal(inner, outer, scale=inner**-0.5), "b": jnp.zeros(outer)}


def _linear(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["w"] + layer["b"]


def _filter(inner: int, outer: int, size: int, bias: bool = True) -> Params:
    weight = _normal(size, size, inner, outer, scale=(inner * size**2) ** -0.5)
    return {"w": weight, "b": jnp.zeros(outer)} if bias else {"w": weight}


def _conv(layer: Params, x: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x,
        layer["w"],
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + layer["b"] if "b" in layer else y


def _pool(x: jax.Array, start: float, reducer: Any, size: int, stride: int, pad: int = 0) -> Any:
    padding = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return jax.lax.reduce_window(
        x, start, reducer, (1, size, size, 1), (1, stride, stride, 1), padding
    )


def _max_pool(x: jax.Array, size: int, stride: int, pad: int = 0) -> jax.Array:
    return _pool(x, -jnp.inf, jax.lax.max, size, stride, pad)


def _avg_pool(x: jax.Array) -> jax.Array:
    return _pool(x, 0.0, jax.lax.add, 2, 2) / 4


def _scale(channels: int) -> Params:
    return {"w": jnp.ones(channels), "b": jnp.zeros(channels)}


def _group_norm(layer: Params, x: jax.Array, groups: int) -> jax.Array:
    grouped = x.reshape(*x.shape[:3], groups, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = grouped.var((1, 2, 4), keepdims=True)
    normal = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return normal * layer["w"] + layer["b"]


def mlp(size: int) -> JaxWorkload:
    params = {"0": _dense(784, 1024), "1": _dense(1024, 1024), "2": _dense(1024, 10)}

    def logits(params: Params, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(_linear(params["0"], x))
        x = jax.nn.relu(_linear(params["1"], x))
        return _linear(params["2"], x)

    return JaxWorkload(params, _normal(size, 784), _integers(10, size), logits)


def mnist_cnn(size: int) -> JaxWorkload:
    params = {"0": _filter(1, 16, 8), "1": _filter(16, 32, 4)}
    params |= {"2": _dense(512, 32), "3": _dense(32, 10)}

    def logits(params: Params, x: jax.Array) -> jax.Array:
        x = _max_pool(jax.nn.relu(_conv(params["0"], x, 2, 3)), 2, 1)
        x = _max_pool(jax.nn.relu(_conv(params["1"], x, 2)), 2, 1)
        x = jax.nn.relu(_linear(params["2"], x.reshape(len(x), -1)))
        return _linear(params["3"], x)

    return JaxWorkload(params, _normal(size, 28, 28, 1), _integers(10, size), logits)


def cifar_cnn(size: int) -> JaxWorkload:
    widths = [3, 32, 32, 64, 64, 128, 128, 256, 10]
    pairs = itertools.pairwise(widths)
    params = {str(i): _filter(inner, outer, 3) for i, (inner, outer) in enumerate(pairs)}

    def logits(params: Params, x: jax.Array) -> jax.Array:
        for i in range(7):
            x = jax.nn.relu(_conv(params[str(i)], x, 1, 1))
            if i in (1, 3, 5):
                x = _avg_pool(x)
        return _conv(params["7"], x, 1, 1).mean((1, 2))

    return JaxWorkload(params, _normal(size, 32, 32, 3), _integers(10, size), logits)


def embedding(size: int) -> JaxWorkload:
    params = {"table": _normal(10_004, 16), "out": _dense(16, 2)}

    def logits(params: Params, x: jax.Array) -> jax.Array:
        return _linear(params["out"], params["table"][x].mean(1))

    return JaxWorkload(params, _integers(10_004, size, 256), _integers(2, size), logits)


def lstm(size: int) -> JaxWorkload:
    width = 100
    params = {"table": _normal(10_004, width), "out": _dense(width, 2)}
    params |= {"ih": _dense(width, 4 * width), "hh": _dense(width, 4 * width)}

    def logits(params: Params, x: jax.Array) -> jax.Array:
        gates = _linear(params["ih"], params["table"][x])  # [B, T, 4 width]
        start = jnp.zeros((len(x), width))

        def cell(state: Any, gate: jax.Array) -> Any:
            h, c = state
            i, f, g, o = jnp.split(gate + _linear(params["hh"], h), 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        _, outputs = jax.lax.scan(cell, (start, start), gates.swapaxes(0, 1))
        return _linear(params["out"], outputs.mean(0))

    return JaxWorkload(params, _integers(10_004, size, 256), _integers(2, size), logits)


def _shortcut_widths(stem: int, widths: tuple[int, ...]) -> Iterator[tuple[str, int, int, int]]:
    """Name, input and output width and stride of each of two blocks a stage."""
    inner = stem
    for stage, outer in enumerate(widths):
        yield f"{stage}.0", inner, outer, 1 if stage == 0 else 2
        yield f"{stage}.1", outer, outer, 1
        inner = outer


def resnet18(size: int) -> JaxWorkload:
    blocks = list(_shortcut_widths(64, (64, 128, 256, 512)))
    params = {"stem": _filter(3, 64, 7, bias=False), "norm": _scale(64), "out": _dense(512, 10)}
    for name, inner, outer, _ in blocks:
        params[name] = {
            "first": _filter(inner, outer, 3, bias=False),
            "first_norm": _scale(outer),
            "second": _filter(outer, outer, 3, bias=False),
            "second_norm": _scale(outer),
        }
        if inner != outer:
            params[name]["shortcut"] = _filter(inner, outer, 1, bias=False)
            params[name]["shortcut_norm"] = _scale(outer)

    def block(layers: Params, x: jax.Array, stride: int) -> jax.Array:
        y = _group_norm(layers["first_norm"], _conv(layers["first"], x, stride, 1), 32)
        y = _conv(layers["second"], jax.nn.relu(y), 1, 1)
        y = _group_norm(layers["second_norm"], y, 32)
        if "shortcut" in layers:
            x = _group_norm(layers["shortcut_norm"], _conv(layers["shortcut"], x, stride), 32)
        return jax.nn.relu(y + x)

    def logits(params: Params, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(_group_norm(params["norm"], _conv(params["stem"], x, 2, 3), 32))
        x = _max_pool(x, 3, 2, 1)
        for name, _, _, stride in blocks:
            x = block(params[name], x, stride)
        return _linear(params["out"], x.mean((1, 2)))

    return JaxWorkload(params, _normal(size, 32, 32, 3), _integers(10, size), logits)


def wrn_16_4(size: int) -> JaxWorkload:
    blocks = list(_shortcut_widths(16, (64, 128, 256)))
    params = {"stem": _filter(3, 16, 3), "norm": _scale(256), "out": _dense(256, 10)}
    for name, inner, outer, _ in blocks:
        params[name] = {
            "first_norm": _scale(inner),
            "first": _filter(inner, outer, 3),
            "second_norm": _scale(outer),
            "second": _filter(outer, outer, 3),
        }
        if inner != outer:
            params[name]["shortcut"] = _filter(inner, outer, 1)

    def block(layers: Params, x: jax.Array, stride: int) -> jax.Array:
        y = jax.nn.relu(_group_norm(layers["first_norm"], x, 16))
        if "shortcut" in layers:
            x = _conv(layers["shortcut"], y, stride)
        y = _group_norm(layers["second_norm"], _conv(layers["first"], y, stride, 1), 16)
        return _conv(layers["second"], jax.nn.relu(y), 1, 1) + x

    def logits(params: Params, x: jax.Array) -> jax.Array:
        x = _conv(params["stem"], x, 1, 1)
        for name, _, _, stride in blocks:
            x = block(params[name], x, stride)
        x = jax.nn.relu(_group_norm(params["norm"], x, 16))
        return _linear(params["out"], x.mean((1, 2)))

    return JaxWorkload(params, _normal(size, 32, 32, 3), _integers(10, size), logits)


MODELS: dict[str, Callable[[int], JaxWorkload]] = {
    "mlp": mlp,
    "mnist_cnn": mnist_cnn,
    "cifar_cnn": cifar_cnn,
    "embedding": embedding,
    "lstm": lstm,
    "resnet18": resnet18,
    "wrn_16_4": wrn_16_4,
}
