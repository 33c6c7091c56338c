"""What stands in ``.grad`` between ``loss.backward()`` and the step: nothing that can be read.

The private gradient is made within ``optimizer.step()``. Whoever reads ``.grad`` before (a
GradScaler, ``clip_grad_norm_``, a log of gradient norms) would find nothing there, and take it for
a gradient of zero. So a tensor without numbers stands there, which says so.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dpfunc.types import Tensors

_HARMLESS = {
    # Optimizer.zero_grad may be called at any time, and shapes are public.
    *("detach_", "requires_grad_", "zero_", "_foreach_zero_", "size", "dim", "numel"),
    *("is_floating_point", "is_complex", "__hash__", "__len__", "stride", "element_size"),
}


class Unreleased(Tensor):
    """In the place of a gradient that has yet to be clipped and to get its noise."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        with torch._C.DisableTorchFunctionSubclass():
            if name in ("zero_", "_foreach_zero_"):
                return args[0]
            if name in _HARMLESS or _is_metadata(func):
                return func(*args, **(kwargs or {}))
        raise RuntimeError(
            "PrivacyEngine: expected nobody to read .grad between loss.backward() and "
            f"optimizer.step() but {name} does (a GradScaler, clip_grad_norm_, a log of gradient "
            "norms?); the private gradient is made in optimizer.step() and can be read after it. "
            "Clipping is what max_grad_norm does, sample by sample; in the place of a GradScaler "
            "use bfloat16, which needs none."
        )

    def __repr__(self) -> str:  # type: ignore[override]  # torch's keyword is its own affair
        return "a private gradient that optimizer.step() will make"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


class NoGradientsYet:
    """Keeps `Unreleased` in the ``.grad`` of ``params`` from the first backward pass to the step.

    ``refuse``: called with the name of a parameter at which an ordinary gradient arrives meanwhile.
    """

    def __init__(self, params: Tensors, refuse: Callable[[str], None]) -> None:
        self._params = params
        self._refuse = refuse
        self._handles: list[Any] = []

    def begin(self) -> None:
        """A backward pass has ended. What it left in ``.grad`` stays."""
        for param in self._params.values():
            takes_plain = not hasattr(param, "device_mesh")  # one in rows takes its like alone
            if param.grad is None and takes_plain:
                nothing = torch.empty((), dtype=param.dtype, device=param.device)
                param.grad = nothing.expand(param.shape).as_subclass(Unreleased)
        if not self._handles:
            self._handles = [
                param.register_hook(partial(self._arrived, name))
                for name, param in self._params.items()
                if param.requires_grad
            ]

    def end(self) -> None:
        """Leave nothing of this behind. What else is in ``.grad`` stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for param in self._params.values():
            if isinstance(param.grad, Unreleased):
                param.grad = None

    def _arrived(self, name: str, _: Tensor) -> None:
        self._refuse(name)


def _is_metadata(func: Any) -> bool:
    """Whether ``func`` reads an attribute, such as ``device``, that tells no number."""
    owner = getattr(func, "__self__", None)
    name = getattr(owner, "__name__", "")
    return getattr(func, "__name__", "") == "__get__" and name not in ("data", "T", "mT", "H", "mH")
