"""A release by the compiled kernel of numba, on a CPU: the numbers of `by_torch.py`, sooner.

``pip install "dpfunc[fast]"`` brings numba. The kernel is compiled once a machine, at its first
use, and has to give known answers then.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dpfunc.noise.kernels import by_torch
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.deciding import ERROR
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import GROUP, Streams, streams
from dpfunc.noise.kernels.listed import COLUMNS, ROOM, finish, require_room
from dpfunc.random.chacha import initial_words
from dpfunc.random.keys import key

T = TypeVar("T")

KINDS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
_FEW = 2**5  # groups: fewer are not worth a thread


@cache
def available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


def release_by_numba(pieces: list[Piece], keys: Streams, scale: float, grid: float) -> None:
    """Release the items of ``pieces``, all on the CPU, in place: see `release_`."""
    kernel = _checked_kernel()
    for dtype in {piece.items.dtype for piece in pieces}:
        own = sorted((p for p in pieces if p.items.dtype == dtype), key=lambda piece: piece.start)
        _release(kernel, own, keys, scale, grid)


def _release(kernel: Any, pieces: list[Piece], keys: Streams, scale: float, grid: float) -> None:
    addresses, starts, sizes = (
        np.array(column, dtype=np.int64)
        for column in zip(
            *((p.items.data_ptr(), p.start, p.items.numel()) for p in pieces), strict=True
        )
    )
    state = np.array(initial_words(keys.words.secret_bytes, bytes(12)), dtype=np.uint32)
    small, large = (2.0**-24 * scale * factor for factor in by_torch.BOUND)
    settings = np.array([scale, 1 / grid, grid, small, large, by_torch.MOST_SQUARE, ERROR])
    kind = KINDS[pieces[0].items.dtype]

    def run(bounds: tuple[int, int]) -> NDArray[np.float64]:
        listed = np.empty((ROOM, COLUMNS))
        count = kernel.release_groups(
            *bounds, state, addresses, starts, sizes, settings, listed, kind
        )
        require_room(count, ROOM, "numba")
        return listed[:count]

    for listed in in_threads(run, pieces[0].start // GROUP, -(-pieces[-1].stop // GROUP)):
        finish(listed, pieces, keys, scale, grid)


def in_threads(run: Callable[[tuple[int, int]], T], first: int, last: int) -> list[T]:
    """``run`` of as many equal shares of the groups as torch has threads.

    The threads are new ones each time: threads that wait would not be there in a forked process.
    An interrupt is raised when all of them have ended: none writes after that.
    """
    count = max(1, min(torch.get_num_threads(), (last - first) // _FEW))
    cuts = [first + (last - first) * i // count for i in range(count + 1)]
    shares = list(pairwise(cuts))
    if count == 1:
        return [run(shares[0])]
    results: list[T] = []
    failures: list[BaseException] = []

    def work(share: tuple[int, int]) -> None:
        try:
            if not failures:  # a thread that comes late would write after that
                results.append(run(share))
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(share,)) for share in shares]
    try:
        for thread in threads:
            thread.start()
    except BaseException as error:
        failures.append(error)
    for thread in threads:
        while thread.ident is not None and thread.is_alive():
            try:
                thread.join()
            except BaseException as error:
                failures.append(error)
    if failures:
        raise failures[0]
    return results


@cache
def _checked_kernel() -> Any:
    """Known answers: a kernel is compiled where it runs, so it is tested there."""
    kernel = import_module("dpfunc.noise.kernels.numba_kernel")
    keys = streams(key(0))
    for dtype in KINDS:
        for scale, grid in ((64.0, 2.0**-8), (127.9, 2.0**20)):
            ours, known = (
                torch.linspace(-3, 3, 3 * GROUP + 5, dtype=dtype) * grid for _ in range(2)
            )
            _release(kernel, [Piece(ours, 100)], keys, scale, grid)
            release_by_torch([Piece(known, 100)], keys, scale, grid)
            if not torch.equal(ours.view(torch.uint8), known.view(torch.uint8)):
                raise RuntimeError(
                    f"dpfunc: the compiled release is wrong in {dtype} on this machine; uninstall "
                    "numba, and report it."
                )
    return kernel
