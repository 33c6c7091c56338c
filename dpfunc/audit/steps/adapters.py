"""A `PrivateGrad` as `check_step` wants it: the other libraries' adapters are in docs/audit.md."""

from dataclasses import replace
from typing import Any

import torch

from dpfunc.audit.steps.candidates import Batch
from dpfunc.audit.steps.step_check import Sums
from dpfunc.noise.gaussian import GaussianNoise
from dpfunc.persample.definition.dense import per_sample_grad
from dpfunc.persample.factors.reduce import leaf_norms
from dpfunc.random.keys import key
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import Tensors


def of_private_grad(private: PrivateGrad, params: Tensors, batch: Batch) -> dict[str, Any]:
    """The arguments of `check_step` for a `PrivateGrad` at ``params``, its noise turned off.

    The bound is that of the clip rule in its first state. What a record should add is its gradient
    by definition, weighted as the rule says.

    >>> import torch, dpfunc as dp
    >>> private = dp.PrivateGrad(
    ...     lambda params, x: (params["w"] * x).sum(),
    ...     clip=dp.Clip(1.0), noise=dp.GaussianNoise(1.0, key=dp.key()), expected_batch_size=4,
    ... )
    >>> sorted(of_private_grad(private, {"w": torch.ones(3)}, (torch.eye(3),)))
    ['batch', 'bound', 'clip', 'plain_grad', 'summed']
    """
    quiet = replace(private, noise=GaussianNoise(0.0, key=key(0)))
    clip_state = private.clip.init()
    size = private.expected_batch_size

    def summed(some: Batch) -> Sums:
        grads, _, _ = quiet.update(params, some, quiet.init(params))
        return {name: grad.double() * size for name, grad in grads.items()}

    def plain_grad(one: Batch) -> Sums:
        grads = per_sample_grad(private.loss_fn)(params, *one)
        return {name: grad[0] for name, grad in grads.items()}

    def clip(own: Sums) -> Sums:
        rows = {name: value[None].double() for name, value in own.items()}
        weights = private.clip.weights(leaf_norms(rows), clip_state).values
        return {name: value * weights[name].to(value)[0] for name, value in own.items()}

    zeros = {name: torch.zeros(1, dtype=torch.float64) for name in params}
    bound = float(private.clip.weights(zeros, clip_state).bound)
    return {
        "summed": summed,
        "batch": batch,
        "bound": bound,
        "plain_grad": plain_grad,
        "clip": clip,
    }
