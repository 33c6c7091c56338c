"""A model of `torch.distributed.fsdp.fully_shard` in an engine: each process has its rows.

FSDP2 gathers the parameters of a part of the model for as long as that part runs, forward and
backward. There they get their names on the tape of the engine. What comes out of a step is made of
rows: the clipped sum is rounded, parameter by parameter, and each process keeps the sum of its own
rows alone. FSDP2 itself reduces nothing, as no gradient of a parameter arises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dpfunc.checks import require
from dpfunc.distributed.agreement import in_agreement, tell_failure
from dpfunc.distributed.processes import Processes
from dpfunc.distributed.sharded import gathered, is_sharded, require_on, rows_of
from dpfunc.engine.hooks import Hook
from dpfunc.noise.exact_sums import OnGrid, add_, exact_grid, on_grid
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import weighted_sum
from dpfunc.types import Summed, Tensors, Weights

_SUBJECT = "PrivacyEngine"
_FSDP = "torch.distributed.fsdp"  # not imported: who shards a model has done so


def is_fully_sharded(model: object) -> bool:
    """Whether `fully_shard` was called on ``model`` or a part of it."""
    return isinstance(model, nn.Module) and any(map(_is_part, model.modules()))


def _is_part(module: nn.Module) -> bool:
    """Whether `fully_shard` was called on ``module`` itself."""
    return any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__)


def _parts(model: nn.Module) -> list[Any]:
    return [part for part in model.modules() if _is_part(part)]


class FullySharded:
    """The trainable ``params`` of ``model``, DTensors of rows on all ``processes``.

    ``shards``: virtual shards of a batch. ValueError for what is sharded in another way.
    """

    def __init__(
        self, model: nn.Module, params: Tensors, processes: Processes, shards: int | None
    ) -> None:
        require(
            shards is not None,
            _SUBJECT,
            "a group of processes beside a model of fully_shard",
            None,
            "pass group=torch.distributed.group.WORLD",
        )
        require(
            _is_part(model) and is_sharded(params),
            _SUBJECT,
            "fully_shard on the whole model",
            "a model of which only parts are sharded",
            "call fully_shard(model) after fully_shard on its parts",
        )
        _require_plain_fsdp(model, params, processes)
        self._model = model
        self._params = params
        self._processes = processes
        self._shards = shards or 1
        self._device = next(iter(params.values())).device
        self._size = sum(param.numel() for param in params.values())
        self._prefixes = {part: f"{path}." if path else "" for path, part in model.named_modules()}
        self._total: OnGrid | None = None

    @staticmethod
    def no_loss(*_: Any) -> Tensor:
        """In the place of a loss: what an engine clips comes from the loop's own backward pass."""
        raise RuntimeError("a PrivacyEngine runs no loss of one sample")

    def attach(self, give_name: Callable[[str, Tensor], None]) -> list[Any]:
        """Hooks that tell which tensor is which parameter, once FSDP2 has gathered it."""
        self._give_name = give_name
        return [
            part.register_forward_pre_hook(Hook(self._named))  # after those of FSDP2
            for part in _parts(self._model)
        ]

    @contextmanager
    def looking(self, due: bool) -> Iterator[Tensors | None]:
        """The whole parameters as leaves, on all processes, if a look is due on any of them.

        None where nobody looks. Inside, the model runs without the hooks of FSDP2: no process waits
        for another one. A look that fails is an error on all.
        """
        _, told = self._agreed({"due": int(due)})
        if not any(each["due"] for each in told):
            yield None
            return
        whole = {name: param.requires_grad_() for name, param in gathered(self._params).items()}
        frozen = {
            id(param): nn.Parameter(param.full_tensor(), requires_grad=False)
            for param in self._model.parameters()
            if isinstance(param, DTensor) and not param.requires_grad
        }
        try:
            with _without_hooks(self._model), _in_place_of(self._model, frozen):
                yield whole
        except BaseException as error:
            tell_failure(self._processes, self._device, error)
            raise
        self._agreed({})

    def add(self, grads: dict[str, Factored], weights: Weights) -> Summed:
        """Add the clipped sum of a shard to the own rows, and empty ``grads``: exactly.

        One collective for each parameter; one parameter is whole at a time.
        """
        grid = exact_grid(weights.bound, size=self._size, parts=self._shards)
        rows: Tensors = {}
        for name in sorted(grads):
            one = Weights({name: weights.values[name]}, weights.bound)
            rounded = on_grid(weighted_sum({name: grads.pop(name)}, one), grid)
            rows[name] = rows_of(rounded.values.pop(name), self._params[name])
        own = OnGrid(rows, grid, weights.bound)
        if self._total is None:
            self._total = own
        else:
            add_(self._total, own)
        return Summed({}, weights.bound)

    def total(self) -> OnGrid:
        """The own rows of all that was added, as whole numbers."""
        if self._total is None:
            raise RuntimeError("a step without shards, which the loop is refused for")
        return self._total

    def forget(self) -> None:
        """Let go of what was added."""
        self._total = None

    @contextmanager
    def gathered(self, needed: bool) -> Iterator[None]:
        """Inside, FSDP2 has gathered all parameters in their own memory, where ``needed``."""
        parts = _parts(self._model)
        for part in parts if needed else []:
            part.unshard()
        try:
            yield
        finally:
            for part in parts if needed else []:
                part.reshard()

    def _named(self, part: nn.Module, _args: Any) -> None:
        """The hook of a part that has just gathered its parameters."""
        prefix = self._prefixes[part]
        for name, param in part.named_parameters(remove_duplicate=False):
            if prefix + name in self._params and not isinstance(param, DTensor):
                self._give_name(prefix + name, param)

    def _agreed(self, counts: dict[str, int]) -> tuple[None, list[dict[str, int]]]:
        return in_agreement(_SUBJECT, self._processes, self._device, lambda: ({}, counts, None))


def _require_plain_fsdp(model: nn.Module, params: Tensors, processes: Processes) -> None:
    """ValueError unless the parameters lie on all processes, at their own precision."""
    require_on(_SUBJECT, params, processes)
    for part in _parts(model):
        policy = part._get_fsdp_state()._mp_policy
        lower = [kind for kind in (policy.param_dtype, policy.output_dtype) if kind is not None]
        require(
            not lower,
            _SUBJECT,
            "fully_shard without a MixedPrecisionPolicy",
            policy,
            "leave mp_policy out, and use torch.autocast in the loop",
        )


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Inside, the parts of ``model`` run on whatever parameters they are given."""
    kept: list[tuple[Any, Any]] = []
    try:
        for part in model.modules():
            for hooks in (part._forward_pre_hooks, part._forward_hooks):
                kept.append((hooks, dict(hooks)))
                for number, hook in list(hooks.items()):
                    if (getattr(hook, "__module__", None) or "").startswith(_FSDP):
                        del hooks[number]
        yield
    finally:
        for hooks, before in kept:
            hooks.clear()
            hooks.update(before)


@contextmanager
def _in_place_of(model: nn.Module, others: dict[int, nn.Parameter]) -> Iterator[None]:
    """Inside, ``model`` has other tensors in the place of some parameters, by their identity."""
    kept = [
        (part, name, param)
        for part in model.modules()
        for name, param in part._parameters.items()
        if id(param) in others
    ]
    try:
        for part, name, param in kept:
            part._parameters[name] = others[id(param)]
        yield
    finally:
        for part, name, param in kept:
            part._parameters[name] = param
