"""What one process has and all need before the first step: a fresh key, the weights of a model."""

import torch
from torch import Tensor, nn

from dpfunc.distributed.agreement import in_agreement
from dpfunc.distributed.processes import Group, Processes
from dpfunc.random.keys import Key, key


def shared_key(*, group: Group = None, device: torch.device | str = "cpu") -> Key:
    """A fresh key from the operating system of the first process, the same on all of ``group``.

    Call it on every process. ``device``: one that the group's backend serves ("cuda" for NCCL). The
    key crosses the network as it is, as the sums without noise do: use a network of your own. It is
    not kept anywhere: to resume a run, save ``key.secret_bytes`` as you would a password.

    >>> key = shared_key()  # of one process where there is no group
    >>> key
    Key(<secret>)
    """
    fresh = torch.tensor(list(key().secret_bytes), dtype=torch.uint8, device=device)
    Processes(group).follow_first_(fresh)
    return Key(bytes(fresh.tolist()))


def share_weights_(subject: str, model: nn.Module, processes: Processes) -> None:
    """Give all parameters and buffers of ``model`` the numbers that the first process has.

    RuntimeError on all processes where the models differ in names, shapes or dtypes.
    """
    every = dict([*model.named_parameters(), *model.named_buffers()])
    tensors = {n: t for n, t in every.items() if not hasattr(t, "device_mesh")}  # rows are its own
    if not tensors:
        return
    device = next(iter(tensors.values())).device
    shapes = [(name, tuple(t.shape), str(t.dtype)) for name, t in tensors.items()]
    facts = {"names, shapes and dtypes of the model": shapes}
    in_agreement(subject, processes, device, lambda: (facts, {}, None))
    for tensor in tensors.values():
        _follow_first_(tensor, processes)


def _follow_first_(tensor: Tensor, processes: Processes) -> None:
    plain = tensor.detach().contiguous()
    processes.follow_first_(plain)
    tensor.detach().copy_(plain)
