"""Mistakes in the Triton kernel, each noticed by its tests in Triton's interpreter.

    python -m tests.noise.kernels.triton_mutants

Needs triton. Without it these tests are skipped, and nothing would notice.
"""

import os
import sys
from importlib.util import find_spec

from tests.mutation import Mutant, main

KERNEL, HOST = "noise/kernels/triton_kernel.py", "noise/kernels/by_triton.py"
SAME = "by_triton::test_the_bits_of_all_kernels_are_the_same"
FURTHER = "by_triton::test_a_scale_at_which_further_bits_matter"
LEFT = "by_triton::test_what_the_kernel_leaves_open_is_decided_on_the_host"

MUTANTS = [
    Mutant(
        "doubtful pairs decided by single precision",
        KERNEL,
        "sure = (room * radius > tl.fma(square, large, small)) & (square < _MOST_SQUARE)",
        "sure = (room * radius > -tl.fma(square, large, small)) & (square < _MOST_SQUARE)",
        SAME,
    ),
    Mutant(
        "infinite sums by a sine lost in a maximum",
        KERNEL,
        "sure = sure & (gap1 + gap2 <= 1.0)",
        "sure = sure & (gap1 <= 1.0)",
        SAME,
    ),
    Mutant(
        "the sum rounded first",
        KERNEL,
        "tl.fma(cosine, reach, (v1 - k1).to(tl.float32))",
        "tl.fma(cosine, reach, 0.0)",
        SAME,
    ),
    Mutant(
        "the sign of a zero released",
        KERNEL,
        "(k2 + w2 + 0.0) * grid",
        "(k2 + w2) * grid",
        SAME,
    ),
    Mutant(
        "halves with the same noise",
        KERNEL,
        "tl.fma(sine, reach,",
        "tl.fma(cosine, reach,",
        SAME,
    ),
    Mutant(
        "a flat offset off by one",
        KERNEL,
        "item = group * _GROUP + place - start  #",
        "item = group * _GROUP + place + 1 - start  #",
        "by_triton::test_any_number_of_items_is_released_and_the_memory_around_them_left",
    ),
    Mutant(
        "programs that begin at the piece instead of its group",
        KERNEL,
        "block = start // _GROUP * _BLOCKS + mine",
        "block = (start + _GROUP - 1) // _GROUP * _BLOCKS + mine",
        "by_triton::test_pieces_anywhere_get_the_numbers_of_their_places",
    ),
    Mutant(
        "further bits that begin with their lower half",
        KERNEL,
        "more_radius[1] >>",
        "more_radius[0] >>",
        FURTHER,
    ),
    Mutant(
        "further bits of the angle where those of the radius belong",
        KERNEL,
        "more_radius, more_angle = _words(",
        "more_angle, more_radius = _words(",
        FURTHER,
    ),
    Mutant(
        "the number of a pair cut to 32 bits",
        KERNEL,
        "(pair >> 32).to(tl.uint32)",
        "(pair >> 63).to(tl.uint32)",
        FURTHER,
    ),
    Mutant(
        "what is left open released as it is",
        KERNEL,
        "is_left = is_open & ~known",
        "is_left = is_open & ~(known | is_open)",
        LEFT,
    ),
    Mutant(
        "an item decided with the sum of another piece",
        HOST,
        "[pieces[int(row[COLUMNS])]], keys",
        "sorted(pieces, key=lambda piece: piece.start), keys",
        LEFT,
    ),
]

LISTS = [(MUTANTS, "tests/**/test_{}.py")]

if __name__ == "__main__":
    if find_spec("triton") is None:
        raise SystemExit("triton_mutants: expected triton but it is not installed.")
    os.environ["TRITON_INTERPRET"] = "1"
    sys.exit(main(LISTS))
