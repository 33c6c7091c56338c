"""When two gradients count as equal: up to the rounding of the numbers that they are made of."""

import math

import torch
from torch import Tensor

MANY_ROWS = 1024


def tolerances(rounding: float) -> tuple[float, float]:
    """How far gradients may be apart: relative to their own norm, and to that of all together."""
    return math.sqrt(rounding), min(100 * rounding, 0.02)


def used_rows(*tables: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one shape without the rows that are zero in all: of a table, those looked up.

    Whatever is compared is the same with them and without; a large table costs a pass, not ten.
    """
    if tables[0].dim() != 2 or len(tables[0]) < MANY_ROWS:
        return tables
    used = torch.stack([(table.amax(1) != 0) | (table.amin(1) != 0) for table in tables]).any(0)
    return tuple(table[used] for table in tables)


def close(actual: Tensor, expected: Tensor, relative: float, *, floor: float) -> bool:
    """Equal in L2 norm, NaN to NaN."""
    actual, expected = (values.double() for values in used_rows(actual, expected))
    if not bool(expected.isfinite().all()):
        return torch.equal(actual.isfinite(), expected.isfinite())
    return float((actual - expected).norm()) <= relative * float(expected.norm()) + floor
