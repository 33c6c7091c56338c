"""What goes into the questions: strategies by the keys of the reference, matrices, rates."""

import json
import math
import re
from pathlib import Path
from typing import Any

_REFERENCE = Path(__file__).parents[2] / "tests" / "strategies" / "reference.json"
REFERENCE = json.loads(_REFERENCE.read_text())
Strategy = dict[str, Any]


def place(key: str) -> tuple[int, int, int]:
    """Steps, participations and separation of a key such as ``n128_k4_b32/bisr_4``."""
    steps, most, apart = re.match(r"n(\d+)_k(\d+)(?:_b(\d+))?", key).groups()
    return int(steps), int(most), int(apart or steps)


def named(key: str) -> tuple[str, Strategy]:
    """The strategy of a key, in words and in numbers."""
    name = key.split("/")[-1].removesuffix("_column_normalised")
    kind, _, number = name.partition("_")
    if kind == "square":
        return "square root", {"name": "square_root"}
    if kind == "identity":
        return "independent noise", {"name": "bands", "coefficients": [1.0]}
    if kind == "bisr":
        return f"BISR, {number} bands", {"name": "square_root_inverse", "bands": int(number)}
    if kind == "lambda":
        lam = REFERENCE["strategies"][key]["lam"]
        return f"lambda-CGD, {lam:.4f}", {"name": "lambda_cgd", "lambda_": lam}
    if kind == "blt":
        known = REFERENCE["blt"][key]
        numbers = {"decays": known["theta"], "weights": known["omega"]}
        return f"{len(known['theta'])} buffers", {"name": "buffered", **numbers}
    listed = REFERENCE["more"].get(key, {}).get("coefs")
    numbers = listed or REFERENCE["strategies"][key.removesuffix("_column_normalised")]["coefs"]
    scaled = [c / numbers[0] for c in numbers]  # the first is 1, which no root error depends on
    return f"{len(scaled)} bands", {"name": "bands", "coefficients": scaled}


def with_signs(steps: int, bands: int) -> list[list[float]]:
    """A lower triangular matrix with entries of both signs, and 1 on its diagonal."""

    def entry(t: int, s: int) -> float:
        if s == t:
            return 1.0
        return math.cos(3 * t + 5 * s) / (1 + t - s) if 0 < t - s < bands else 0.0

    return [[entry(t, s) for s in range(steps)] for t in range(steps)]


def falling(steps: int) -> list[float]:
    """Rates that fall in a line, the last of them 1 / steps."""
    return [1 - t / steps for t in range(steps)]
