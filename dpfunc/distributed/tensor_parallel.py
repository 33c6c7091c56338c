"""`TensorParallel`: one sample's work is spread over processes, each with a part of a parameter.

The gradient of a sample then lies in parts, and so does its norm: one collective adds up the
squares. All else is local: the weights are the same everywhere, a process sums its own part, and
makes the noise of its own part.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from dpfunc.accounting import Event
from dpfunc.checks import require
from dpfunc.distributed.agreement import digest_of, in_agreement, sum_of_bits
from dpfunc.distributed.data_parallel import DataParallel
from dpfunc.distributed.norms import gathered_norms
from dpfunc.distributed.processes import Processes
from dpfunc.distributed.sharded import released_rows
from dpfunc.distributed.shared_release import (
    Contribution,
    contribution,
    facts_of_step,
    joined_norms,
    learned,
    require_exact,
)
from dpfunc.noise.exact_sums import as_sum
from dpfunc.persample.batches.batch import as_args, batch_device, batch_size
from dpfunc.persample.factors.reduce import leaf_norms, weighted_sum
from dpfunc.random.keys import Key
from dpfunc.step.microbatch import Aux, Part, in_microbatches
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import State, Tensors

_SUBJECT = "TensorParallel"
_SAME = 1e-3  # relative: kernels may round the same gradient in two ways
_SMALL = 1e-6  # of the largest squared norm of a sample


@dataclass(frozen=True)
class TensorParallel:
    """A step of ``private`` with parameters that are cut, on a mesh of data and tensor processes.

    ``mesh``: of two dimensions, over all processes. Along the first one lie processes with other
    samples (as in `DataParallel`: ``shards``, which their number divides); along the second one
    those that share each sample, whose parameters are parts: `cut` makes them, as DTensors on
    ``mesh``'s second dimension. ``(1, W)`` is tensor parallel alone.

    The ``loss_fn`` of ``private``, of one sample, gets the process's own parts as plain tensors,
    and says where processes meet, by `fan_out` and `fan_in`. What it returns is the same on all
    processes of a sample. A parameter that is whole on all of them is used outside of `fan_out` and
    `fan_in`; used inside, its gradient would be one process's alone: pass it through nothing, cut
    it.

    Guarantee: that of `DataParallel`, where the loss is as said. The squared norm of a sample's
    gradient is the sum over the parts, and over whole parameters once (those of the first process),
    by one collective of ``[names, B]``; so all processes clip alike. Sums are rounded to the grid
    of all parameters together, and the noise of a number is that of its place in the whole: the
    release is that of one process with whole parameters, but for what floats add in another order.

    | case | result |
    |---|---|
    | other samples on the processes that share them | RuntimeError on all, before the step |
    | another loss, or gradient of a whole parameter, on one of them | RuntimeError on all |
    | ``randomness="different"`` | ValueError: masks would differ where all have to be the same |
    | an error in the loss on one process | the others wait for the timeout of the group |
    """

    private: PrivateGrad
    _: KW_ONLY
    mesh: Any
    shards: int = 1
    _data: DataParallel = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        everyone = Processes(None)
        require(
            self.mesh.ndim == 2 and self.mesh.size() == everyone.count,
            _SUBJECT,
            f"a mesh of two dimensions over all {everyone.count} processes",
            tuple(self.mesh.shape),
            'pass init_device_mesh(device, (data, tensor), mesh_dim_names=("data", "tensor"))',
        )
        data = DataParallel(self.private, shards=self.shards, group=self.mesh.get_group(0))
        require(
            self.private.randomness == "error",
            _SUBJECT,
            'a PrivateGrad with randomness="error"',
            self.private.randomness,
            "leave dropout out: its masks would differ between the processes of a sample",
        )
        object.__setattr__(self, "_data", data)

    def init(self, params: Tensors) -> State:
        """The state before the first step: that of `DataParallel`."""
        return self._data.init(params)

    def batches(self, key: Key, step: int, *, size: int, rate: float) -> list[Tensor]:
        """The records of this process: see `DataParallel.batches`."""
        return self._data.batches(key, step, size=size, rate=rate)

    def update(
        self, params: Tensors, batches: Sequence[Any], state: State
    ) -> tuple[Tensors, State, Aux]:
        """One step: ``(grads, state, aux)``; call it on every process. ``grads``: cut alike."""
        _require_cut(params, Processes(self.mesh.get_group(1)))
        local = {name: _local(param) for name, param in params.items()}
        everyone, data = Processes(None), Processes(self.mesh.get_group(0))
        tensor = Processes(self.mesh.get_group(1))
        device = next(iter(local.values())).device
        _, told = in_agreement(
            _SUBJECT, everyone, device, lambda: self._before(local, batches, state)
        )
        _require_alike(told)
        whole = {name for name, param in params.items() if _is_whole(param)}

        def clipped_sum(
            own: Tensors, args: tuple[Any, ...], clip_state: State, mask: Tensor
        ) -> Part:
            grads, losses = self.private.per_sample(own, args)
            norms = norms_of_parts(leaf_norms(grads), losses.detach(), whole, tensor)
            weights = self.private.weights(norms, clip_state, mask)
            return Part(weighted_sum(grads, weights), norms, losses.detach())

        def part(batch: Any) -> Part:
            args = tuple(as_args(batch))
            mask = torch.ones(batch_size(args), dtype=torch.bool, device=batch_device(args))
            most = self.private.samples_at_a_time(local, args, state["clip"])
            return in_microbatches(clipped_sum, local, args, state["clip"], mask, most)

        def own_half() -> tuple[dict[str, object], dict[str, int], Contribution]:
            mine = contribution(_SUBJECT, map(part, batches), params, self.shards)
            sizes = mine.sizes()
            counts = {"samples": sum(sizes), "largest": max(sizes), "tensor": tensor.own}
            return facts_of_step(self.private, params, state, mine), counts, mine

        mine, told = in_agreement(_SUBJECT, everyone, device, own_half)
        samples = sum(count["samples"] for count in told if count["tensor"] == 0)
        require_exact(_SUBJECT, mine.total, samples)
        norms = mine.norms
        if state["clip"]:
            norms = gathered_norms(norms, max(count["largest"] for count in told), data)
        clip_state = learned(self.private, joined_norms(norms), state)
        data.add_up_([mine.total.values[name] for name in sorted(params)])
        for name in sorted(whole):  # the same bits on all, whatever their kernels do
            total = mine.total.values[name].contiguous()
            tensor.follow_first_(total)
            mine.total.values[name] = total
        rows, noise = as_sum(mine.total).values, self.private.noise
        bound = mine.total.bound
        grads, noise_state = released_rows(noise, rows, params, state["noise"], bound)
        after = {"clip": clip_state, "noise": noise_state}
        return grads, {**after, "step": state["step"] + 1, "shards": self.shards}, mine.aux()

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from, on any mesh: see `PrivateGrad.resume`."""
        return self._data.resume(state, key=key)

    def event(self, state: State, *, sample_rate: float | None = None) -> Event:
        """What the steps up to ``state`` released: see `PrivateGrad.event`."""
        return self._data.event(state, sample_rate=sample_rate)

    def _before(
        self, local: Tensors, batches: Sequence[Any], state: State
    ) -> tuple[dict[str, object], dict[str, int], None]:
        """What has to be the same where, told before any process waits for another's part."""
        self._data.require_state(state)
        drawn = self._data.require_batches(batches, state)
        row, column = self.mesh.get_coordinate()
        bits = [sum_of_bits(param) for _, param in sorted(local.items())]
        facts: dict[str, object] = {
            "draw of records": drawn,
            "step": state["step"],
            "number of shards": self.shards,
            "microbatch_size": self.private.microbatch_size,
        }
        digests = {"batch": _number(list(batches)), "bits": _number(bits)}
        return facts, {**digests, "row": row, "column": column}, None


def cut(params: Tensors, mesh: Any, axes: dict[str, int]) -> Tensors:
    """``params`` as DTensors on the second dimension of ``mesh``: cut along an axis, or whole.

    ``axes``: ``{name: 0 or 1}``, the axis that a parameter is cut along; those without stay whole
    on every process. ValueError where the processes do not divide an axis. Call it on all processes
    with the same parameters.
    """
    unknown = sorted(set(axes) - set(params))
    require(not unknown, "cut", "axes of the parameters", unknown, f"of {sorted(params)}")
    inner, count = mesh[mesh.mesh_dim_names[1]], mesh.size(1)
    for name, axis in axes.items():
        shape = tuple(params[name].shape)
        require(
            axis in (0, 1) and axis < len(shape) and shape[axis] % count == 0,
            "cut",
            f"an axis 0 or 1 that {count} processes divide for {name}",
            (axis, shape),
            "leave it whole, or cut the other axis",
        )
    return {
        name: distribute_tensor(
            param.detach(), inner, [Shard(axes[name]) if name in axes else Replicate()]
        )
        for name, param in params.items()
    }


def norms_of_parts(norms: Tensors, losses: Tensor, whole: set[str], tensor: Processes) -> Tensors:
    """The norms of whole gradients from those of the parts: one collective.

    ``whole``: parameters that every process has whole, which count once: the first process's.
    RuntimeError on all processes where ``losses [B]``, or the norms of what is whole, are not the
    same on all of them: then a process has a part of a gradient alone.
    """
    names = sorted(norms)
    squares = torch.stack([norms[name].square() for name in names])
    alike = torch.stack(
        [losses.to(squares.dtype), *(squares[names.index(n)] for n in sorted(whole))]
    )
    first = alike.clone()
    if tensor.own > 0:
        first.zero_()
        for place, name in enumerate(names):
            if name in whole:
                squares[place] = 0
    tensor.add_up_([squares, first, alike])
    _require_same(["loss", *sorted(whole)], first * tensor.count, alike)
    return {name: squares[place].sqrt() for place, name in enumerate(names)}


def _require_same(names: list[str], expected: Tensor, found: Tensor) -> None:
    small = torch.zeros_like(expected)  # what is next to nothing may be rounding alone
    if len(names) > 1:
        small[1:] = _SMALL * expected[1:].amax(0)
    off = (found - expected).abs() > _SAME * expected.abs() + small
    close = ~(off | (found.isfinite() != expected.isfinite())).any(1)
    differing = [name for name, same in zip(names, close.tolist(), strict=True) if not same]
    require(
        not differing,
        _SUBJECT,
        "the same loss, and the same gradients of whole parameters, on the processes of a sample",
        f"others for {differing}",
        "use what is whole outside of fan_out and fan_in, put fan_out in front of what is cut "
        "and fan_in behind it",
        error=RuntimeError,
    )


def _require_alike(told: list[dict[str, int]]) -> None:
    """RuntimeError on all processes where those of a sample, or of a part, have not the same."""
    for what, kind, axis in (
        ("samples on the processes that share them", "batch", "row"),
        ("parts of the parameters along the data dimension", "bits", "column"),
    ):
        found: dict[int, set[int]] = {}
        for each in told:
            found.setdefault(each[axis], set()).add(each[kind])
        require(
            all(len(values) == 1 for values in found.values()),
            _SUBJECT,
            f"the same {what}",
            "others",
            "start every process with the same key, data and model",
            error=RuntimeError,
        )


def _number(value: object) -> int:
    return int(digest_of(value), 16)


def _require_cut(params: Tensors, tensor: Processes) -> None:
    wrong = {
        name: getattr(param, "placements", "a plain tensor")
        for name, param in params.items()
        if not isinstance(param, DTensor)
        or sorted(param.device_mesh.mesh.flatten().tolist()) != tensor.ranks
        or not isinstance(param.placements[0], Shard | Replicate)
    }
    require(
        not wrong,
        _SUBJECT,
        f"parameters that lie on the {tensor.count} processes of the second dimension of the mesh",
        wrong,
        "pass what dpfunc.distributed.cut(params, mesh, axes) gives",
    )


def _is_whole(param: Tensor) -> bool:
    return isinstance(param, DTensor) and param.placements[0].is_replicate()


def _local(param: Tensor) -> Tensor:
    if not isinstance(param, DTensor):
        raise TypeError("a DTensor was checked for")
    return param.to_local().detach()
