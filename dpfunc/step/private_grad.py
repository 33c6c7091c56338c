"""`PrivateGrad`: a batch in, a private gradient out. Engine, clip, sum, noise, scale."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.checks import is_real, require
from dpfunc.clipping.weights import divided, masked, of_scaled, scaled
from dpfunc.naming import in_name_of, own_fields
from dpfunc.persample.automatic import automatic_grad
from dpfunc.persample.batches.batch import as_args, batch_device, batch_size, map_tensors
from dpfunc.persample.definition.dense import per_sample_grad_and_loss
from dpfunc.persample.definition.loss import Batched, LossFn, Randomness, require_params
from dpfunc.persample.definition.nested_params import flattened, of_flat
from dpfunc.persample.definition.used import require_used_by_one_sample
from dpfunc.persample.factored import factored_grad
from dpfunc.persample.factors.reduce import PerSample, global_norm, leaf_norms, weighted_sum
from dpfunc.persample.watching.under_vmap import require_outside
from dpfunc.random.keys import Key
from dpfunc.sampling.scheme import Sampler
from dpfunc.step.arguments import (
    require_methods,
    require_microbatches,
    require_numbers,
    require_state,
    whole_mask,
)
from dpfunc.step.memory import DEFAULT_SHARE, free_bytes
from dpfunc.step.microbatch import Aux, ClippedSum, Part, in_microbatches, largest_microbatch
from dpfunc.step.one_process import require_one_process, require_plain_closure
from dpfunc.step.sampled import (
    event_of,
    require_branch,
    require_same_query,
    require_theorem,
    require_told,
)
from dpfunc.types import ClipRule, NoiseMechanism, State, Tensors, Weights

Engine = Callable[..., Callable[..., tuple[PerSample, Tensor]]]

ENGINES: dict[str, Engine] = {"dense": per_sample_grad_and_loss, "factored": factored_grad}
"""``engine(loss_fn, randomness=...)(params, *batch) -> (per-sample gradients, losses [B])``."""


@own_fields("PrivateGrad", {"max_grad_norm": "pass clip=dpfunc.Clip(max_grad_norm)"})
@dataclass(frozen=True)
class PrivateGrad:
    """A differentially private gradient of ``loss_fn``, as a pure function of its arguments.

    ``grads = (sum_i weight_i * grad_i + noise) / expected_batch_size``, where ``grad_i`` is the
    gradient of ``loss_fn(params, *sample_i)``, the weights come from ``clip`` and the noise from
    ``noise``: DP-SGD (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1) up to the optimiser, which
    is post-processing.

    Guarantee: with `GaussianNoise` of noise multiplier sigma and a batch drawn by
    `sampling.poisson` at rate q, the gradients of T steps are as private as
    ``accounting.dp_sgd(noise_multiplier=sigma, sample_rate=q, steps=T)`` under adding or removing
    one sample (an entry of axis 0), provided that ``loss_fn`` reads nothing of the private data but
    its sample, that the key stays secret, and that ``expected_batch_size`` is a constant that does
    not depend on the private data. ``aux`` is not private.

    ``sampler``: who takes part, where it is not `sampling.poisson` (`dpfunc.sampling`); draw each
    batch with ``sampler.batch(key, step)``. The guarantee is then that of ``event(state)``, which
    the sampler makes of the noise. A pair of both that nobody has bounded is refused here.

    ``microbatch_size`` bounds memory and changes nothing but rounding (and which dropout mask a
    sample draws). With "auto" it is the largest whose tensors fit ``memory_budget`` bytes, by
    default half of what is free at the first step, on top of parameters, batch and noise. A run on
    shapes alone, without data, counts them, once for every power of two that batch sizes reach; see
    `dpfunc.step.memory.peak_bytes` for what it cannot see.

    ``engine`` computes the per-sample gradients: "factored" never forms them, "dense" is the
    definition, and "auto" is factored, or dense for a loss with derivatives of its own (a gradient
    penalty, say). ``randomness`` is that of `per_sample_grad`.
    With "different", masks come from torch's generator in the order of the batch: the guarantee
    then needs that generator to be secret too, so do not seed it with a known number.

    | case | result |
    |---|---|
    | ``B == 0``, or all masked | noise alone over ``expected_batch_size``; take the step |
    | a sample with a NaN or infinite gradient | adds zero |
    | a wrong mask or batch | an error; nothing has changed |
    | "auto", and one sample exceeds the budget | ValueError; nothing has changed |

    >>> import torch, dpfunc as dp
    >>> private = dp.PrivateGrad(
    ...     lambda params, x: (params["w"] * x).sum(),
    ...     clip=dp.Clip(1.0), noise=dp.GaussianNoise(0.0, key=dp.key()), expected_batch_size=2,
    ... )
    >>> params = {"w": torch.zeros(2)}
    >>> grads, state, aux = private.update(params, torch.eye(2), private.init(params))
    >>> grads
    {'w': tensor([0.5000, 0.5000])}
    """

    loss_fn: LossFn
    _: KW_ONLY
    clip: ClipRule
    noise: NoiseMechanism
    expected_batch_size: float
    sampler: Sampler | None = None
    microbatch_size: int | Literal["auto"] | None = None
    memory_budget: int | None = None
    engine: str = "auto"
    randomness: Randomness = "error"
    _seen: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)
    _fitting: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(
            callable(self.loss_fn),
            "PrivateGrad",
            "a loss_fn(params, *sample) -> scalar",
            type(self.loss_fn).__name__,
            "pass a function of the parameters and one sample",
            error=TypeError,
        )
        require_plain_closure("PrivateGrad", self.loss_fn)
        require_methods("clip", self.clip, ("init", "weights", "update"), "Clip(max_norm)")
        require_methods("noise", self.noise, ("init", "add", "event"), "GaussianNoise(...)")
        size = self.expected_batch_size
        require(
            is_real(size) and 0 < size < math.inf,
            "PrivateGrad",
            "a finite expected_batch_size > 0",
            size,
            "pass sample_rate * dataset size, a constant of the run",
        )
        require_theorem(self.sampler, self.noise, self.clip, size)
        require_microbatches(
            self.microbatch_size, self.memory_budget, is_batched=isinstance(self.loss_fn, Batched)
        )
        require(
            self.engine in ("auto", *ENGINES),
            "PrivateGrad",
            f"engine auto or one of {sorted(ENGINES)}",
            self.engine,
            "use auto",
        )
        with in_name_of("PrivateGrad"):
            self._engine()  # refuses a wrong randomness here rather than at the first step

    def init(self, params: Any) -> State:
        """The state before the first step. It holds no secret: keys stay in the mechanisms."""
        flat, _ = flattened("PrivateGrad.init", params)
        return {"clip": self.clip.init(), "noise": self.noise.init(flat)}

    @in_name_of("PrivateGrad.update", of="batch|params|factored_grad|per_sample_grad")
    def update(
        self, params: Any, batch: Any, state: State, mask: Tensor | None = None
    ) -> tuple[Any, State, Aux]:
        """One step: ``(grads, state, aux)``. ``params`` and ``state`` are left as they are.

        ``params``: tensors by name, or in any nesting of dicts, lists and tuples, which ``loss_fn``
        gets; ``grads`` are nested alike.
        ``batch``: a tensor or a tuple of tensors (or dicts of them) with samples on axis 0: the
        arguments of ``loss_fn`` after ``params``. ``mask``: bool ``[B]``, False for padding.
        ``grads``: private, of the parameters' shapes and dtypes.

        RuntimeError where a process group of several processes is in use.
        """
        require_one_process("PrivateGrad.update", "use dpfunc.distributed.DataParallel")
        require_outside("PrivateGrad.update", "take the steps of several runs in a Python loop")
        flat, rebuild = flattened("PrivateGrad.update", params)
        require_params(flat)
        require_state(state)
        if rebuild is None:
            return self.update_by(self.clipped_sum, flat, batch, state, mask)
        inner = replace(self, loss_fn=of_flat(self.loss_fn, rebuild))
        object.__setattr__(inner, "_fitting", self._fitting)  # what was counted and seen holds on
        object.__setattr__(inner, "_seen", self._seen)
        grads, state, aux = inner.update_by(inner.clipped_sum, flat, batch, state, mask)
        return rebuild(grads), state, aux

    def update_by(
        self,
        clipped_sum: ClippedSum,
        params: Tensors,
        batch: Any,
        state: State,
        mask: Tensor | None = None,
    ) -> tuple[Tensors, State, Aux]:
        """`update` with another way to run the data half of a step, such as `compile`'s."""
        args = tuple(as_args(batch))
        require_numbers(params, args)
        mask = whole_mask(mask, args)
        if self.engine == "dense" and not self._seen:
            require_used_by_one_sample(self.loss_fn, params, args, randomness=self.randomness)
            self._seen.append(True)
        at_a_time = self.samples_at_a_time(params, args, state["clip"])
        part = in_microbatches(clipped_sum, params, args, state["clip"], mask, at_a_time)
        return self.release(part, params, state, mask)

    def release(
        self, part: Part, params: Tensors, state: State, mask: Tensor
    ) -> tuple[Tensors, State, Aux]:
        """The other half of a step: noise on what the whole batch contributes, and the new state.

        For loops that come to their `Part` in another way than by calling ``loss_fn``. The sum of
        the part is gone afterwards: the release may take its memory.
        """
        clip_state = self.clip.update(part.norms, mask, state["clip"])
        require_told(self.clip, state["clip"], clip_state)
        add = getattr(self.noise, "add_", self.noise.add)  # in the memory of the sum
        noisy, noise_state = add(part.summed, state["noise"])
        grads = {name: noisy[name].to(param.dtype) for name, param in params.items()}
        aux = Aux(part.losses, global_norm(part.norms))
        return grads, {"clip": clip_state, "noise": noise_state}, aux

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from after a crash, or in another direction.

        With the ``key`` of the run: the same state, checked to be one of this run. The next step
        then releases, bit for bit, what it would have released, if the batch and the parameters are
        the same; without that a step would be released twice under one noise. With a new key, from
        `dpfunc.key`: a branch of the run with fresh noise, for other data or hyperparameters. Draw
        its samples with that key, too, and compose its event with those of the other branches.
        ValueError for a branch beside a ``sampler`` that does not draw every step afresh: groups,
        bins and orders of two keys together are in no event. Begin a new run with ``init``.

        >>> import dpfunc as dp
        >>> key = dp.key()
        >>> noise = dp.GaussianNoise(1.0, key=key)
        >>> private = PrivateGrad(lambda params, x: params["w"] * x, clip=dp.Clip(1.0),
        ...                       noise=noise, expected_batch_size=1)
        >>> state = private.init({})
        >>> private.resume(state, key=key) == state, private.resume(state, key=dp.key()) == state
        (True, False)
        """
        require_methods("noise", self.noise, ("resume",), "GaussianNoise(...)")
        require_branch(self.sampler, is_own=key == getattr(self.noise, "key", None))
        clip_state = state["clip"]
        require_same_query(self.clip, clip_state)
        if hasattr(self.clip, "resume"):  # a rule that draws noise has fresh noise in a branch, too
            clip_state = self.clip.resume(clip_state, key=key)
        noise_state = self.noise.resume(state["noise"], key=key)
        return {**state, "clip": clip_state, "noise": noise_state}

    def event(self, state: State, *, sample_rate: float | None = None) -> Event:
        """What the steps up to ``state`` released, for `accounting.epsilon`.

        ``sample_rate`` is the rate that `sampling.poisson` drew the batches with; with a
        ``sampler``, which knows, it is left out.
        """
        return event_of(self.sampler, self.noise, self.clip, state["noise"], sample_rate)

    def clipped_sum(
        self, params: Tensors, args: tuple[Any, ...], clip_state: State, mask: Tensor
    ) -> Part:
        """The data half of a step, on one microbatch: engine, norms, weights, weighted sum."""
        grads, losses = self.per_sample(params, args)
        norms, weights = self.norms_and_weights(grads, clip_state, mask)
        return Part(weighted_sum(grads, weights), norms, losses.detach())

    def per_sample(self, params: Tensors, args: tuple[Any, ...]) -> tuple[PerSample, Tensor]:
        """The gradients and losses of the samples in ``args``, by the engine. Not private."""
        return self._engine()(params, *args)

    def norms_and_weights(
        self, grads: PerSample, clip_state: State, mask: Tensor, scale: float = 1.0
    ) -> tuple[Tensors, Weights]:
        """The norms of ``scale * grads``, and what ``grads`` themselves are added up with."""
        norms = scaled(leaf_norms(grads), scale)
        return norms, of_scaled(self.weights(norms, clip_state, mask), scale)

    def weights(self, norms: Tensors, clip_state: State, mask: Tensor) -> Weights:
        """The weights of one microbatch in the clipped sum over ``expected_batch_size``."""
        weights = masked(self.clip.weights(norms, clip_state), mask)
        return divided(weights, self.expected_batch_size)

    def samples_at_a_time(
        self, params: Tensors, args: tuple[Any, ...], clip_state: State
    ) -> int | None:
        """``microbatch_size`` as a number; "auto" is counted once for each power of two."""
        if self.microbatch_size != "auto":
            return self.microbatch_size
        device, most = batch_device(args), 1 << max(0, batch_size(args) - 1).bit_length()
        shapes = map_tensors(lambda part: (part.dtype, part.shape[1:]), args)
        of_params = [(param.dtype, param.shape) for param in params.values()]
        key = repr((most, device, shapes, of_params))
        if key not in self._fitting:
            budget = self.memory_budget
            if budget is None:
                budget = int(DEFAULT_SHARE * free_bytes(device))
            self._fitting[key] = largest_microbatch(
                self.clipped_sum, params, args, clip_state, most, budget
            )
        return self._fitting[key]

    def _engine(self) -> Callable[..., tuple[PerSample, Tensor]]:
        engine = automatic_grad if self.engine == "auto" else ENGINES[self.engine]
        return engine(self.loss_fn, randomness=self.randomness)
