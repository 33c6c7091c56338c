"""Every kernel writes what it is asked for, all of it, and nothing else."""

import threading
import time
from itertools import pairwise

import pytest
import torch

import dpfunc as dp
from dpfunc.noise import lattice
from dpfunc.noise.kernels import by_numba, by_torch, deciding
from dpfunc.noise.kernels.by_numba import release_by_numba
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.flat import Piece, starts_of
from dpfunc.noise.kernels.format import GROUP, further_words, streams

KERNELS = {"torch": release_by_torch, "numba": release_by_numba}
KEYS, SCALE, GRID = streams(dp.key(4)), 100.0, 2.0**-6
POISON = 7.25e8
EVERY = {"torch": [*range(70), *range(GROUP - 3, GROUP + 4), 2 * GROUP - 1, 2 * GROUP + 1]}
EVERY["numba"] = [*range(2 * GROUP + 2)]


@pytest.fixture(scope="module")
def whole():
    row = torch.zeros(3 * GROUP)
    release_by_torch([Piece(row, 0)], KEYS, SCALE, GRID)
    return row


@pytest.mark.parametrize("kernel", KERNELS)
def test_any_number_of_items_is_released_and_the_memory_around_them_left(kernel, whole):
    """A kernel that left the last items out would release the sum itself, in its own memory."""
    for size in EVERY[kernel]:
        buffer = torch.full((size + 2,), POISON)
        buffer[1:-1] = 0.0
        KERNELS[kernel](
            [Piece(buffer[1:-1], 0)] if size else [Piece(buffer[:0], 0)], KEYS, SCALE, GRID
        )
        assert torch.equal(buffer[1:-1], whole[:size]), size
        assert buffer[0] == buffer[-1] == POISON


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cuts", [[0, 1, 2, 4096, 4097], [5, 2048, 6000, 12_287], [4095, 8193]])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float64)])
def test_pieces_anywhere_get_the_numbers_of_their_places(kernel, cuts, dtypes, whole):
    pieces = [
        Piece(torch.zeros(stop - start, dtype=dtypes[i % len(dtypes)]), start)
        for i, (start, stop) in enumerate(pairwise(cuts))
        if i != 1  # a gap: nobody's items
    ]
    KERNELS[kernel](pieces[::-1], KEYS, SCALE, GRID)
    for piece in pieces:
        assert torch.equal(piece.items.float(), whole[piece.start : piece.stop])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("few", [1, 2])
def test_threads_and_runs_change_nothing(threads, few, monkeypatch, whole):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(by_numba, "_FEW", few)
    monkeypatch.setattr(by_torch, "_RUN", {"cpu": few})
    try:
        for kernel in KERNELS.values():
            row = torch.zeros(3 * GROUP)
            kernel([Piece(row, 0)], KEYS, SCALE, GRID)
            assert torch.equal(row, whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_interrupt_midway_leaves_nothing_of_the_sum(kernel, monkeypatch):
    def interrupted(pieces, *args):
        KERNELS[kernel](pieces[:1], *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(lattice, "kernel_for", lambda device: interrupted)
    sums = {"w": torch.full((5000,), POISON), "b": torch.full((5,), POISON)}
    with pytest.raises(KeyboardInterrupt):
        lattice.release_(sums, dp.key(1), deviation=1.0)
    assert all((value == 0).all() for value in sums.values())


def test_threads_end_before_an_interrupt_is_raised(monkeypatch):
    """What writes later would leave noise where zeros were put."""
    ended, interrupts = [], [KeyboardInterrupt, KeyboardInterrupt]
    real = threading.Thread.join

    def interrupted(thread, *args):
        if interrupts:
            raise interrupts.pop()
        real(thread, *args)

    def slow(share):
        time.sleep(0.3)
        ended.append(share)

    monkeypatch.setattr(by_numba.Thread, "join", interrupted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with pytest.raises(KeyboardInterrupt):
        by_numba.in_threads(slow, 0, 300)
    assert len(ended) == 3
    assert not interrupts


def test_an_error_in_a_thread_is_raised(monkeypatch):
    def wrong(share):
        raise RuntimeError("of the second" if share[0] else "of the first")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(RuntimeError, match="of the"):
        by_numba.in_threads(wrong, 0, 300)


def test_what_the_compiled_kernel_lists_is_decided_by_further_bits(monkeypatch):
    """At this scale the words leave one pair in two thousand open, and not one in a million."""
    finished, real = [], by_numba.finish

    def finish(rows, *args):
        finished.extend(rows)
        real(rows, *args)

    monkeypatch.setattr(by_numba, "finish", finish)
    rows = [torch.linspace(-4, 4, 30 * GROUP, dtype=torch.float64) for _ in range(2)]
    for row, kernel in zip(rows, KERNELS.values(), strict=True):
        kernel([Piece(row, 0)], KEYS, 3e5, 2.0**-18)
    assert torch.equal(*rows)
    assert len(finished) > 10


def test_more_open_pairs_than_a_kernel_can_list_are_an_error(monkeypatch):
    monkeypatch.setattr(by_numba, "ROOM", 3)
    with pytest.raises(RuntimeError, match=r"left \d+ pairs open"):
        release_by_numba([Piece(torch.zeros(100 * GROUP), 0)], KEYS, 3e5, 2.0**-18)


def test_a_kernel_that_is_wrong_is_refused(monkeypatch):
    """At first use: its numbers are compared with those of torch operations."""
    real = by_numba._release

    def wrong(kernel, pieces, keys, scale, grid):
        real(kernel, pieces, keys, scale, grid)
        pieces[0].items[3] += grid

    monkeypatch.setattr(by_numba, "_release", wrong)
    by_numba._checked_kernel.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="the compiled release is wrong in"):
            by_numba._checked_kernel()
    finally:
        by_numba._checked_kernel.cache_clear()


def test_inexact_functions_of_a_device_are_refused(monkeypatch):
    real = by_torch.waves
    monkeypatch.setattr(by_torch, "waves", lambda words: [w + 1e-5 for w in real(words)])
    by_torch.require_accurate.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="too inexact on cpu"):
            release_by_torch([Piece(torch.zeros(3), 0)], KEYS, SCALE, GRID)
    finally:
        by_torch.require_accurate.cache_clear()


def test_names_in_order_are_one_row_without_gaps():
    assert starts_of({"w": 3, "a": 2, "b": 0}) == {"a": 0, "b": 2, "w": 2}


def test_without_numba_torch_operations_release_and_the_user_is_told(monkeypatch):
    assert "compiled by numba" in dp.explain_noise()
    monkeypatch.setattr(by_numba, "available", lambda: False)
    assert lattice.kernel_for(torch.device("cpu")) is release_by_torch
    assert 'pip install "dpfunc[fast]"' in dp.explain_noise()


def test_a_pair_beyond_32_bits_has_further_bits_of_its_own():
    assert further_words(KEYS.further, 5) != further_words(KEYS.further, 5 + 2**32)
    assert deciding.FINE_BITS == 52
