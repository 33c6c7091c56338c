"""The noise: the bits of the CPU on every device and by every cipher, and what it costs."""

import statistics
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

import dpfunc as dp
from benchmarks.device.settings import Settings
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import streams
from dpfunc.noise.lattice import explain_noise, release_
from dpfunc.random import chacha, chacha_triton

KEY = dp.key(1)
NUMBERS, NUMBERS_OF_A_TINY_RUN = 10**7, 20_000
ROUNDS = 7


def noise(settings: Settings) -> dict[str, Any]:
    """How many released numbers and bytes of keystream differ, and seconds for each release."""
    count = NUMBERS_OF_A_TINY_RUN if settings.tiny else NUMBERS
    sums = torch.randn(count, generator=torch.Generator().manual_seed(0))
    known = _released(sums)
    differ = int((_released(sums.to(settings.device)).cpu() != known).sum())
    by_torch = sums.clone()
    release_by_torch([Piece(by_torch, 0)], streams(KEY), 64.0, 2.0**-6)
    differ_by_torch = int((by_torch != known).sum())
    answer: dict[str, Any] = {
        "numbers": count,
        "numbers that differ from the CPU's": differ,
        "of torch operations on the CPU": differ_by_torch,
        "bytes of the ciphers that differ": _ciphers_differ(count, settings),
        "kernel": explain_noise(settings.device),
        "rows": _costs(count, settings),
    }
    if differ or differ_by_torch or answer["bytes of the ciphers that differ"]:
        answer["failed"] = "the same key gave other numbers"
    return answer


def _released(sums: Tensor) -> Tensor:
    return release_({"w": sums.clone()}, KEY, deviation=1.0)["w"]


def _ciphers_differ(count: int, settings: Settings) -> int:
    """Between OpenSSL and each cipher that runs on the device."""
    secret, cpu = KEY.secret_bytes, torch.device("cpu")
    known = chacha.keystream(secret, count, device=cpu)
    ciphers = [chacha.torch_keystream]
    if chacha_triton.available(settings.device):
        ciphers.append(chacha.triton_keystream)
    options = {"nonce": bytes(12), "first_block": 0, "device": settings.device}
    return sum(int((cipher(secret, count, **options).cpu() != known).sum()) for cipher in ciphers)


def _costs(count: int, settings: Settings) -> list[dict[str, Any]]:
    sums = torch.zeros(count, device=settings.device)
    contenders: dict[str, partial[object]] = {
        "torch.randn": partial(torch.randn, count, device=settings.device),
        "release": partial(release_, {"w": sums}, KEY, deviation=1.0),
        "release by torch operations": partial(
            release_by_torch, [Piece(sums, 0)], streams(KEY), 64.0, 2.0**-6
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + ROUNDS):
        for name, run in contenders.items():
            settings.synchronize()
            start = time.perf_counter()
            run()
            settings.synchronize()
            taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(own[1:]) for name, own in taken.items()}
    return [
        {
            "contender": name,
            "ns a number": round(1e9 * seconds / count, 3),
            "ratio to torch.randn": round(seconds / medians["torch.randn"], 2),
        }
        for name, seconds in medians.items()
    ]
