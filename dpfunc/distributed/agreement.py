"""Before anything is released: all processes do the same step, and none of them has failed.

Two processes with two keys, two states or two models would release other numbers than the one
release that is accounted for. And a process that fails would leave the others waiting for it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from dpfunc.distributed.processes import Group, Processes
from dpfunc.persample.batches.nested import replace_tensors
from dpfunc.types import Tensors

Facts = Mapping[str, object]
"""What has to be the same on all processes, by what it is called in a message."""

_T = TypeVar("_T")
_CPU = torch.device("cpu")
_LONGEST_REASON = 1000
_KNOWN = "_dpfunc_is_known_to_all"  # an attribute of such an error
_LONGEST_FACT = 60
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def agree(
    facts: Facts,
    *,
    group: Group = None,
    subject: str = "agree",
    device: torch.device | str = _CPU,
) -> None:
    """RuntimeError on every process of ``group`` unless all of them have the same ``facts``.

    ``facts``: at most a dozen numbers, strings, tensors, or nested dicts and lists of them, by
    what they are called in the error. Short ones are shown; of others a digest is compared. Call it
    on all processes; it is one collective of 4 KiB. ``device``: one that the group's backend
    serves. `DataParallel.update` asks for all that a release rests on, in every step.

    Do not pass a key: what is told is seen by whoever reads the network. A state tells its run.

    >>> agree({"size of the data": 60_000, "learning rate": 0.1})
    """
    in_agreement(subject, Processes(group), torch.device(device), lambda: (facts, {}, None))


def in_agreement(
    subject: str,
    processes: Processes,
    device: torch.device,
    work: Callable[[], tuple[Facts, dict[str, int], _T]],
) -> tuple[_T, list[dict[str, int]]]:
    """The result of ``work()`` here, and what all processes count; an error where one has failed.

    ``work`` gives facts that all must share, whole numbers to be told, and the result. One
    collective, whatever happens inside of ``work``: an error there is raised here as it is, and on
    all other processes as a RuntimeError with its words.
    """
    try:
        facts, counts, result = work()
        own = {"facts": {name: _told(fact) for name, fact in facts.items()}, "counts": counts}
    except BaseException as error:
        tell_failure(processes, device, error)
        raise
    try:
        return result, _compared(subject, processes.tell(own, device), processes.count)
    except RuntimeError as error:
        _known_to_all(error)
        raise


def _compared(subject: str, everyone: list[dict[str, Any]], processes: int) -> list[dict[str, int]]:
    """What all count, where all tell the same facts and none a failure; else RuntimeError."""
    failed = [
        f"rank {rank}: {told['failed']}" for rank, told in enumerate(everyone) if "failed" in told
    ]
    if failed:
        raise RuntimeError(
            f"{subject}: expected all {processes} processes to finish their part of the step "
            f"but got an error on {failed[0]}. Nothing has been released."
        )
    for difference in _differences([told["facts"] for told in everyone]):
        raise RuntimeError(
            f"{subject}: expected {difference}; start every process with the same key "
            "(dpfunc.distributed.shared_key makes one for all), data, model and state. Nothing has "
            "been released."
        )
    return [told["counts"] for told in everyone]


def tell_failure(processes: Processes, device: torch.device, error: BaseException) -> None:
    """Let all others fail with the words of ``error``, where they compare their facts next.

    Once: an error that came from there, or was told already, is known to all.
    """
    if not getattr(error, _KNOWN, False):
        _known_to_all(error)
        processes.tell({"failed": _reason(error)}, device)


def _known_to_all(error: BaseException) -> None:
    setattr(error, _KNOWN, True)


def facts_of_params(params: Tensors) -> dict[str, object]:
    """That models are the same: names, shapes and dtypes, and a sum of their bits.

    Of what is cut into rows each process has others: there are no bits to compare.
    """
    shapes = [(name, tuple(p.shape), str(p.dtype)) for name, p in sorted(params.items())]
    whole = {name: param for name, param in params.items() if not hasattr(param, "device_mesh")}
    bits = [(name, sum_of_bits(param)) for name, param in sorted(whole.items())]
    return {"names, shapes and dtypes of the parameters": shapes, "parameters": bits}


def _differences(facts: list[dict[str, str]]) -> Iterator[str]:
    for name in {name: None for told in facts for name in told}:
        values = [told.get(name, "nothing") for told in facts]
        if len(set(values)) > 1:
            other = next(rank for rank, value in enumerate(values) if value != values[0])
            yield (
                f"the same {name} on all processes but got {values[0]} on rank 0 and "
                f"{values[other]} on rank {other}"
            )


def _told(fact: object) -> str:
    """Short facts as they are; of long ones, and of tensors, a digest."""
    plain = replace_tensors(fact, _digest_of_tensor)
    text = repr(plain)
    return text if len(text) <= _LONGEST_FACT else f"digest {_digest(text.encode())}"


def digest_of(value: object) -> str:
    """A short text that is another one where a number in ``value`` is."""
    return _digest(repr(replace_tensors(value, _digest_of_tensor)).encode())


def _digest_of_tensor(tensor: Tensor) -> tuple[Any, ...]:
    data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return tuple(tensor.shape), str(tensor.dtype), _digest(data)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def sum_of_bits(param: Tensor) -> int:
    """A number that is another one when a bit is: for mistakes, not against an adversary."""
    words = param.detach().contiguous().view(_WORDS[param.itemsize])
    return int(words.sum(dtype=torch.int64))


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode()
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_REASON]
