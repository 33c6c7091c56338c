"""Parameters that lie on many devices: each keeps its rows of them, of the noise, and of the sum.

In a step the parameters are gathered whole, since every process needs them for its samples. The sum
is not: each process gets the rows that are its own, and makes the noise of those alone.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor import distribute_tensor as distributed_tensor

from dpfunc.checks import require
from dpfunc.distributed.processes import Processes
from dpfunc.noise.exact_sums import OnGrid
from dpfunc.noise.kernels.flat import starts_of
from dpfunc.types import NoiseMechanism, State, Tensors

Mesh = Any
"""A ``torch.distributed.device_mesh.DeviceMesh`` of one dimension."""


def shard(params: Tensors, mesh: Mesh) -> Tensors:
    """``params`` cut along their first axis: each process of ``mesh`` keeps its rows as a DTensor.

    `DataParallel.update` takes such parameters, and gives gradients that are cut in the same way:
    the optimiser's state, the gradients and the noise of a process are those of its rows, 1 / W of
    all. For the time of a step's data half every process gathers the parameters whole. The released
    numbers are those of a run with whole parameters, bit for bit.

    ``mesh``: of one dimension, the same processes as the group of `DataParallel`. Call it on all
    processes, with the same parameters. A parameter without an axis stays whole on all of them.
    ValueError for a mesh of several dimensions.

    >>> import torch, dpfunc as dp  # doctest: +SKIP
    >>> mesh = torch.distributed.init_device_mesh("cuda", (8,))  # doctest: +SKIP
    >>> params = shard(dp.named_params(model), mesh)  # doctest: +SKIP
    """
    require(
        mesh.ndim == 1,
        "shard",
        "a mesh of one dimension",
        f"one of {mesh.ndim}",
        "pass one of its dimensions: mesh['name']",
    )
    return {
        name: distributed_tensor(param.detach(), mesh, [_placement(param)])
        for name, param in params.items()
    }


def is_sharded(params: Tensors) -> bool:
    """Whether they are DTensors; ValueError where some are, or one is cut in another way."""
    kinds = {isinstance(param, DTensor) for param in params.values()}
    require(
        len(kinds) <= 1,
        "DataParallel",
        "parameters that are all sharded, or none",
        "some of each",
        "pass what dpfunc.distributed.shard(params, mesh) gives",
    )
    strange = {
        name: param.placements
        for name, param in params.items()
        if isinstance(param, DTensor) and tuple(param.placements) != (_placement(param),)
    }
    require(
        not strange,
        "DataParallel",
        "parameters that are cut along their first axis",
        strange,
        "pass what dpfunc.distributed.shard(params, mesh) gives",
    )
    return True in kinds


def require_on(subject: str, params: Tensors, processes: Processes) -> None:
    """ValueError unless ``params`` are DTensors of one dimension on exactly these ``processes``.

    Rows are added up over the mesh, and records are cut over the group. On a mesh of some of the
    group two meshes would release other sums under one noise; on one of others a record would count
    twice.
    """
    own = processes.ranks
    strange = {
        name: mesh.mesh.tolist()
        for name, param in params.items()
        if (mesh := _as_dtensor(param).device_mesh).ndim != 1 or sorted(mesh.mesh.tolist()) != own
    }
    require(
        not strange,
        subject,
        f"parameters on one mesh of the {processes.count} processes of the group, {own}",
        f"meshes of {strange}",
        "make the mesh of the processes that share a batch: "
        "init_device_mesh(device, (world_size,)) beside the group of all",
    )


def gathered(params: Tensors) -> Tensors:
    """The whole parameters, on every process: a collective for each."""
    return {name: _as_dtensor(param).full_tensor().detach() for name, param in params.items()}


def own_rows(total: OnGrid, params: Tensors) -> Tensors:
    """The sum over all processes, of each parameter the own rows: exactly. Empties ``total``."""
    rows = {}
    for name in sorted(params):
        rows[name] = rows_of(total.values.pop(name), params[name]).mul_(total.grid)
    return rows


def rows_of(part: Tensor, param: Tensor) -> Tensor:
    """The own rows of the sum of every process's ``part``: one collective. ``part`` is used up."""
    param = _as_dtensor(param)
    parts = DTensor.from_local(part, param.device_mesh, [Partial()], run_check=False)
    return parts.redistribute(placements=param.placements).to_local()


def released_rows(
    noise: NoiseMechanism, rows: Tensors, params: Tensors, state: State, bound: float
) -> tuple[Tensors, State]:
    """The release of the own rows, as DTensors like ``params``, and the state of the noise.

    The numbers of a row of parameters are at their places in the row of all, so that they get the
    noise that they have in a whole release: once each, and no process makes that of another.
    """
    add_range = getattr(noise, "add_range", None)
    next_state = getattr(noise, "next_state", None)
    if add_range is None or next_state is None:
        raise TypeError(
            "DataParallel: expected a noise that can release a part alone (add_range, next_state) "
            f"for sharded parameters but got {type(noise).__name__}; use GaussianNoise, or whole "
            "parameters."
        )
    starts = starts_of({name: param.numel() for name, param in params.items()})
    grads: Tensors = {}
    for name, own in rows.items():
        param = _as_dtensor(params[name])
        whole, part = _in_rows(own, param)
        start = starts[name] + _first_row(param) * (param.numel() // max(1, _rows(param)))
        noisy = part(add_range(whole, state, bound=bound, start=start)).to(param.dtype)
        grads[name] = DTensor.from_local(
            noisy,
            param.device_mesh,
            param.placements,
            run_check=False,
            shape=param.shape,
            stride=param.stride(),
        )
    return {name: grads[name] for name in params}, next_state(state)


def _in_rows(own: Tensor, param: DTensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Numbers that lie in a row in the whole parameter, and where ``own`` is among them.

    Columns do not lie in a row: they get the noise of the whole, of which they keep their own.
    """
    placement = param.placements[0]
    if not isinstance(placement, Shard) or placement.dim == 0:
        return own, lambda values: values
    axis, width = placement.dim, own.shape[placement.dim]
    first = _first(param, axis)
    whole = own.new_zeros(param.shape)
    whole.narrow(axis, first, width).copy_(own)
    return whole, lambda values: values.narrow(axis, first, width).contiguous()


def _first_row(param: DTensor) -> int:
    """The first of the own rows; 0 for what has all of them."""
    return _first(param, 0) if param.placements[0].is_shard(0) else 0


def _first(param: DTensor, axis: int) -> int:
    """Where the own part begins along ``axis``."""
    mesh = param.device_mesh
    each = -(-param.shape[axis] // mesh.size())
    return min(each * mesh.get_local_rank(), param.shape[axis])


def _rows(param: Tensor) -> int:
    return param.shape[0] if param.dim() > 0 else 1


def _placement(param: Tensor) -> Placement:
    return Shard(0) if param.dim() > 0 else Replicate()


def _as_dtensor(param: Tensor) -> DTensor:
    if not isinstance(param, DTensor):
        raise TypeError(f"a DTensor was checked for but is a {type(param).__name__}")
    return param
