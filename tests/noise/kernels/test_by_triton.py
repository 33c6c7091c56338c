"""The Triton kernel releases the bits of the other kernels: on a GPU, or interpreted on a CPU.

Triton reads its interpreter's switch when it is imported, so without a GPU these tests run in a
process of their own: `test_all_of_these_in_the_interpreter`.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc.noise import lattice
from dpfunc.noise.kernels import by_torch, by_triton
from dpfunc.noise.kernels.by_numba import release_by_numba
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.by_triton import release_by_triton
from dpfunc.noise.kernels.flat import DTYPES, Piece
from dpfunc.noise.kernels.format import GROUP, streams
from dpfunc.types import Summed
from tests.laws.test_l8_floats import bits_of
from tests.noise.kernels import scans
from tests.noise.kernels.test_bounds import spread

ROOT = Path(__file__).parents[3]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
KEYS, SCALE, GRID = streams(dp.key(4)), 100.0, 2.0**-6
POISON = 7.25e8

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
runs_it = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="needs CUDA or TRITON_INTERPRET=1"
)
interpreted = pytest.mark.skipif(not INTERPRETED, reason="needs TRITON_INTERPRET=1")


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU runs them")
def test_all_of_these_in_the_interpreter():
    files = [__file__, str(ROOT / "tests/random/test_chacha.py")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert " passed" in ran.stdout


@needs_triton
@pytest.mark.nightly
@pytest.mark.skipif(INTERPRETED, reason="it starts an interpreter")
def test_ten_million_numbers_in_the_interpreter():
    command = [sys.executable, "-m", "tests.noise.kernels.triton_at_large", "--numbers", "10000000"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]


@pytest.fixture(autouse=True, params=[DEVICE.type])
def _device(request):
    """Puts the device into the names of the tests: ``-k cuda`` runs them on a GPU."""


@pytest.fixture
def _wide(monkeypatch):
    """The interpreter takes as long for a program of 8,192 blocks as for one of 32."""
    if INTERPRETED:
        monkeypatch.setattr(by_triton, "LANES", 2**13)


def by_all(row, pieces, scale=SCALE, grid=GRID):
    """The bits of the release of ``pieces`` (start, stop) of the row, by each kernel."""
    released = []
    for kernel in (release_by_torch, release_by_numba, release_by_triton):
        place = DEVICE if kernel is release_by_triton else torch.device("cpu")
        own = [Piece(row[start:stop].to(place, copy=True), start) for start, stop in pieces]
        kernel(own, KEYS, scale, grid)
        released.append(bits_of(torch.cat([piece.items.cpu() for piece in own])))
    return released


SIZES = [0, 1, 2, 31, 33, 255, 257, 2047, 2048, 2049, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP]


@runs_it
@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_items_is_released_and_the_memory_around_them_left(dtype):
    whole = torch.zeros(2 * GROUP, dtype=dtype)
    release_by_numba([Piece(whole, 0)], KEYS, SCALE, GRID)
    for size in SIZES:
        buffer = torch.full((size + 2,), POISON, dtype=dtype, device=DEVICE)
        buffer[1:-1] = 0.0
        release_by_triton([Piece(buffer[1:-1], 0)], KEYS, SCALE, GRID)
        assert torch.equal(bits_of(buffer[1:-1].cpu()), bits_of(whole[:size])), size
        assert buffer[0] == buffer[-1] == POISON


@runs_it
@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("cuts", [[0, 1, 2, 4096, 4097], [5, 2048, 6000, 12_287], [4095, 8193]])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float64)])
def test_pieces_anywhere_get_the_numbers_of_their_places(cuts, dtypes):
    whole = torch.zeros(3 * GROUP)
    release_by_numba([Piece(whole, 0)], KEYS, SCALE, GRID)
    pieces = [
        Piece(torch.zeros(stop - start, dtype=dtypes[i % len(dtypes)], device=DEVICE), start)
        for i, (start, stop) in enumerate(pairwise(cuts))
        if i != 1  # a gap: nobody's items
    ]
    release_by_triton(pieces[::-1], KEYS, SCALE, GRID)
    for piece in pieces:
        assert torch.equal(piece.items.cpu().float(), whole[piece.start : piece.stop])


@runs_it
@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # infinity less itself
@pytest.mark.parametrize(("scale", "grid"), [(64.0, 2.0**-120), (100.0, 1.0), (127.99, 2.0**100)])
def test_the_bits_of_all_kernels_are_the_same(scale, grid, dtype):
    sums = torch.linspace(-300, 500, 300_001, dtype=dtype) * grid
    sums[3:6] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    sums[3000:3003] = sums[3:6]  # items by a sine, too
    sums[200_000:] = -1e-30 * grid  # a zero must not tell their sign
    known, fast, ours = by_all(sums, [(0, 100_001), (100_001, 300_001)], scale, grid)
    assert torch.equal(fast, known)
    assert torch.equal(ours, known)


@runs_it
def test_the_lanes_of_a_device_give_the_same_numbers():
    known, _, ours = by_all(torch.linspace(-3, 3, GROUP + 9), [(7, GROUP + 3)])
    assert torch.equal(ours, known)


@runs_it
@pytest.mark.usefixtures("_wide")
def test_cells_of_52_bits_decide_everything_the_same_way(monkeypatch):
    rows = [torch.linspace(-3, 3, GROUP + 99) for _ in range(2)]
    release_by_numba([Piece(rows[0], 5)], KEYS, SCALE, GRID)
    monkeypatch.setattr(by_torch, "BOUND", (1e9, 1e9))
    ours = rows[1].to(DEVICE)
    release_by_triton([Piece(ours, 5)], KEYS, SCALE, GRID)
    assert torch.equal(ours.cpu(), rows[0])


@interpreted
@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64, torch.float32)])
def test_what_the_kernel_leaves_open_is_decided_on_the_host(dtypes, monkeypatch):
    """Each item of a pair by the piece that it is in, whose sum it is added to."""
    leave_many_open(monkeypatch)
    finished, real = [], by_triton.finish

    def finish(rows, *args):
        finished.extend(rows)
        real(rows, *args)

    monkeypatch.setattr(by_triton, "finish", finish)
    cuts = [*range(0, GROUP, 700), GROUP + 99]
    row = torch.linspace(-4, 4, GROUP + 99)
    both = []
    for kernel in (release_by_triton, release_by_torch):
        both.append(
            [
                Piece(row[start:stop].to(dtypes[i % len(dtypes)], copy=True), start)
                for i, (start, stop) in enumerate(pairwise(cuts))
            ]
        )
        kernel(both[-1], KEYS, SCALE, GRID)
    for ours, known in zip(*both, strict=True):
        assert torch.equal(bits_of(ours.items), bits_of(known.items))
    assert len(finished) > 300


@runs_it
@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("first", [0, 2**34])
def test_a_scale_at_which_further_bits_matter(first, monkeypatch):
    """The words leave all pairs open, and 52 bits some in a hundred. Beyond item 2**33 the number
    of a pair has more than 32 bits."""
    finished, real = [], by_triton.finish
    monkeypatch.setattr(by_triton, "finish", lambda *args: finished.append(real(*args)))
    rows = [torch.linspace(-3, 3, GROUP + 99, dtype=torch.float64) for _ in range(2)]
    cuts = [0, 70, 3000, GROUP, GROUP + 99]
    ours = [Piece(rows[0][a:b].to(DEVICE, copy=True), first + a) for a, b in pairwise(cuts)]
    release_by_triton(ours, KEYS, 1e11, GRID)
    release_by_numba([Piece(rows[1], first)], KEYS, 1e11, GRID)
    assert torch.equal(torch.cat([piece.items.cpu() for piece in ours]), rows[1])
    assert len(finished) > 10


@interpreted
@pytest.mark.usefixtures("_wide")
def test_more_open_pairs_than_the_kernel_can_list_are_an_error(monkeypatch):
    """And nothing of the sum is left."""
    leave_many_open(monkeypatch, at_least=8 * GROUP)
    monkeypatch.setattr(lattice, "kernel_for", lambda device: release_by_triton)
    sums = {"w": torch.full((16 * GROUP,), POISON)}
    with pytest.raises(RuntimeError, match=r"left \d+ pairs open"):
        lattice.release_(sums, dp.key(1), deviation=1.0)
    assert (sums["w"] == 0).all()


def leave_many_open(monkeypatch, at_least=None):
    """Cells whose bounds are far too wide, which the interpreter reads anew."""
    normals = import_module("dpfunc.noise.kernels.triton_normals")
    monkeypatch.setattr(by_torch, "BOUND", (1e9, 1e9))
    error = 2.0**-12 if at_least is None else 1.0
    monkeypatch.setattr(normals, "_ERROR", normals.tl.constexpr(error))


@runs_it
@pytest.mark.usefixtures("_wide")
def test_a_mechanism_releases_every_dtype(monkeypatch):
    def released(kernel, place):
        monkeypatch.setattr(lattice, "kernel_for", lambda device: kernel)
        sums = {
            "a": torch.ones(11, dtype=torch.bfloat16),
            "b": torch.linspace(-1, 1, 5000).view(50, 100).T,
            "c": torch.ones(3, dtype=torch.float64),
        }
        noise = dp.GaussianNoise(1.1, key=dp.key(2))
        sums = {name: value.to(place) for name, value in sums.items()}
        return noise.add(Summed(sums, 1.0), noise.init({}))[0]

    known, ours = released(release_by_torch, "cpu"), released(release_by_triton, DEVICE)
    for name, value in known.items():
        assert ours[name].dtype == value.dtype
        assert torch.equal(ours[name].cpu(), value)


@runs_it
def test_single_precision_has_the_bits_of_numba(monkeypatch):
    """So the scans of all words by numba's are scans of Triton's."""
    if INTERPRETED and not rounds_fused_products_once():
        pytest.skip("the interpreter of this version of triton rounds a fused product twice")
    words = torch.arange(0, 2**32, 2**16 - 1).to(torch.int32)
    unsigned = words.numpy().view(np.uint32)
    known = np.empty((4, len(words)), np.float32)
    scans._numba_polar(unsigned, unsigned, known)
    assert by_triton.digest(torch.from_numpy(known)) == by_triton._BITS_OF_NORMALS
    assert by_triton.normals_digest(DEVICE) == by_triton._BITS_OF_NORMALS
    radius, angle = spread(scans.RADII), spread(scans.ANGLES)
    for first in range(4):  # in every quarter of a turn
        angles = np.resize(angle + first * scans.ANGLES, len(radius))
        known = scans.polar("numba", radius, angles)
        assert torch.equal(polar_by_triton(2 * radius, angles), torch.from_numpy(known))


def polar_by_triton(radius, angle):
    kernel = import_module("dpfunc.noise.kernels.triton_kernel")
    radius, angle = (torch.from_numpy(w.astype(np.uint32).view(np.int32)) for w in (radius, angle))
    out, lanes = torch.empty((4, len(radius)), device=DEVICE), 2**17 if INTERPRETED else 1024
    grid = (-(-len(radius) // lanes),)
    words = radius.to(DEVICE), angle.to(DEVICE)
    kernel.polar_of[grid](*words, out, len(radius), lanes=lanes, **by_triton.EXACT)
    return out.cpu()


def rounds_fused_products_once():
    return hasattr(import_module("triton._C.libtriton").interpreter, "fma_fp32")


@runs_it
@pytest.mark.usefixtures("_wide")
def test_known_answers_are_asked_for_at_first_use(monkeypatch):
    if INTERPRETED and not rounds_fused_products_once():
        pytest.skip("the interpreter of this version of triton rounds a fused product twice")
    assert by_triton._wrong(DEVICE) is None
    with monkeypatch.context() as patch:
        patch.setattr(by_triton, "_BITS_OF_NORMALS", 1)
        assert "other bits" in by_triton._wrong(DEVICE)

    def off(pieces, *args):
        release_by_torch(pieces, *args)
        pieces[0].items[3] += args[-1]

    monkeypatch.setattr(by_triton, "release_by_triton", off)
    assert "other numbers" in by_triton._wrong(DEVICE)


@pytest.fixture
def _as_if_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(by_triton.chacha_triton, "available", lambda device: True)
    by_triton.refusal.cache_clear()
    yield
    by_triton.refusal.cache_clear()


@pytest.mark.usefixtures("_as_if_on_cuda")
def test_a_cuda_device_is_served_by_the_kernel_and_the_user_is_told(monkeypatch):
    monkeypatch.setattr(by_triton, "_wrong", lambda device: None)
    assert lattice.kernel_for(torch.device("cuda:0")) is release_by_triton
    assert dp.explain_noise("cuda:0") == (
        "A Triton kernel releases on cuda:0: the numbers of every other kernel."
    )


def failing(device):
    raise ValueError("no such instruction")


@pytest.mark.usefixtures("_as_if_on_cuda")
@pytest.mark.parametrize(
    ("check", "reason"),
    [(failing, "ValueError: no such instruction"), (lambda device: "it is wrong", "it is wrong")],
)
def test_where_the_kernel_fails_torch_operations_release_and_the_user_is_told(
    check, reason, monkeypatch
):
    monkeypatch.setattr(by_triton, "_wrong", check)
    with pytest.warns(RuntimeWarning, match=reason):
        assert lattice.kernel_for(torch.device("cuda:0")) is release_by_torch
    assert lattice.kernel_for(torch.device("cuda:0")) is release_by_torch  # told once
    assert reason in dp.explain_noise("cuda:0")


def test_without_cuda_or_triton_the_reason_is_told(monkeypatch):
    by_triton.refusal.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a CUDA device" in dp.explain_noise("cuda")
    by_triton.refusal.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(by_triton.chacha_triton, "available", lambda device: False)
    assert "Triton is not installed" in dp.explain_noise("cuda")
    by_triton.refusal.cache_clear()
