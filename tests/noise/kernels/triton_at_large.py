"""Many numbers by Triton's interpreter on a CPU, and by the other kernels: all bits the same.

python -m tests.noise.kernels.triton_at_large --numbers 10000000
"""

import argparse
import os
import time

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import torch

import dpfunc as dp
from dpfunc.noise.kernels import by_triton
from dpfunc.noise.kernels.by_numba import release_by_numba
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.by_triton import release_by_triton
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import streams

KERNELS = {"torch": release_by_torch, "numba": release_by_numba, "Triton": release_by_triton}
GRID = 2.0**-6


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--numbers", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    by_triton.LANES = 2**16
    differ = 0
    for scale, dtype in ((64.0, torch.float32), (127.99, torch.float64)):
        count, keys = options.numbers // 2, streams(dp.key(options.seed))
        sums = torch.linspace(-3, 5, count, dtype=dtype)
        released = {}
        for name, kernel in KERNELS.items():
            own, start = sums.clone(), time.perf_counter()
            kernel(
                [Piece(own[: count // 3], 0), Piece(own[count // 3 :], count // 3)],
                keys,
                scale,
                GRID,
            )
            released[name] = own.view(torch.uint8).view(count, -1)
            print(f"{name}, {dtype}, {count:,}: {time.perf_counter() - start:.1f} s", flush=True)
        for name in ("torch", "numba"):
            other = int((released[name] != released["Triton"]).any(1).sum())
            print(f"Triton's interpreter and {name}: {other} of {count:,} numbers differ")
            differ += other
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
