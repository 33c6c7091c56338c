"""All that a forward pass could change of a module: kept, compared, and put back exactly."""

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Cell(NamedTuple):
    """A tensor that a module holds. ``kind``: "parameter", "buffer" or "attribute"."""

    name: str
    kind: str
    tensor: Tensor


class _Saved(NamedTuple):
    """A tensor, another view of its storage, and a copy of its numbers."""

    tensor: Tensor
    view: Tensor
    copy: Tensor


_KINDS = {"_parameters": "parameter", "_buffers": "buffer"}


class Kept:
    """What ``module`` and torch's generators are now; `restore` puts it back, however often.

    Kept are the attributes of every layer, what lists, sets and dicts among them hold (submodules
    and hooks too), the numbers of all tensors that are found there, and the states of the
    generators on the CPU and on ``devices``. Out of reach: tensors deeper inside other objects.
    """

    def __init__(self, module: nn.Module, devices: set[torch.device]) -> None:
        self._module = module
        self._layers = [(layer, dict(vars(layer))) for layer in module.modules()]
        self._containers = [
            (value, _contents(value))
            for _, attributes in self._layers
            for value in attributes.values()
            if isinstance(value, dict | list | set)
        ]
        self._cells = {(cell.kind, cell.name): _saved(cell.tensor) for cell in cells(module)}
        self._generators = [(device, _generator_state(device)) for device in _random(devices)]

    def changes(self) -> list[Cell]:
        """The tensors that are new, or have other numbers than they had."""
        found = []
        for cell in cells(self._module):
            before = self._cells.get((cell.kind, cell.name))
            if before is None or not same(cell.tensor, before.copy):
                found.append(cell._replace(tensor=cell.tensor.detach().clone()))
        return found

    def restore(self) -> None:
        """Put everything back but the generators."""
        for layer, attributes in self._layers:
            now = vars(layer)
            for name in [name for name in now if name not in attributes]:
                del now[name]
            now.update(attributes)
        for container, contents in self._containers:
            _refill(container, contents)
        for saved in self._cells.values():
            _put_back(saved)

    def restore_generators(self) -> None:
        """Put torch's generators back, so that the next draws are those that came before."""
        for device, state in self._generators:
            _set_generator_state(device, state)


def cells(module: nn.Module) -> Iterator[Cell]:
    """The tensors that the layers of ``module`` hold, by themselves or in a list or dict."""
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        for attribute, value in vars(layer).items():
            if isinstance(value, Tensor):
                yield Cell(prefix + attribute, "attribute", value)
            elif attribute in _KINDS:
                for name, tensor in value.items():
                    if tensor is not None:
                        yield Cell(prefix + name, _KINDS[attribute], tensor)
            elif isinstance(value, dict | list | tuple):
                for place, tensor in _items(value):
                    if isinstance(tensor, Tensor):
                        yield Cell(f"{prefix}{attribute}[{place!r}]", "attribute", tensor)


def same(left: Tensor, right: Tensor) -> bool:
    """Equal number by number, where NaN equals NaN."""
    if (left.shape, left.dtype, left.device) != (right.shape, right.dtype, right.device):
        return False
    if left.layout != torch.strided:
        left, right = left.to_dense(), right.to_dense()
    return bool(((left == right) | ((left != left) & (right != right))).all())


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _contents(container: Any) -> list[Any]:
    """What is in it, in order: keys and values in turn for a dict."""
    if isinstance(container, dict):
        return [part for item in container.items() for part in item]
    return list(container)


def _refill(container: Any, contents: list[Any]) -> None:
    now = _contents(container)
    if len(now) == len(contents) and all(map(operator.is_, now, contents)):
        return
    container.clear()
    if isinstance(container, dict):
        container.update(zip(contents[::2], contents[1::2], strict=True))
    elif isinstance(container, set):
        container.update(contents)
    else:
        container.extend(contents)


def _saved(tensor: Tensor) -> _Saved:
    return _Saved(tensor, tensor.detach(), tensor.detach().clone())


def _put_back(saved: _Saved) -> None:
    if _points_elsewhere(saved.tensor, saved.view):
        saved.tensor.data = saved.view
    # Only what has changed is written, so that no version counter moves without need.
    if not same(saved.tensor, saved.copy):
        with torch.no_grad():
            saved.tensor.copy_(saved.copy)


def _points_elsewhere(tensor: Tensor, view: Tensor) -> bool:
    """Whether ``tensor`` has got other storage, or another view of it, than it had."""
    if (tensor.shape, tensor.dtype, tensor.layout) != (view.shape, view.dtype, view.layout):
        return True
    if tensor.layout != torch.strided:  # has no storage of its own
        return False
    return tensor.data_ptr() != view.data_ptr() or tensor.stride() != view.stride()


def _random(devices: set[torch.device]) -> list[torch.device]:
    """The CPU, and those of ``devices`` whose generators can be read one by one."""
    return [torch.device("cpu"), *(at for at in devices if at.type in ("cuda", "xpu"))]


def _generator_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    state: Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


def _set_generator_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)
