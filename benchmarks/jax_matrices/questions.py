"""What both libraries are asked about errors, sensitivities, optima and privacy.

Plain data, so that the process with JAX and the one with torch read the same. A question has a
``kind``, which names a function of `theirs` and one of `ours`, and the arguments of that function.
Those about a key of the reference of the tests carry the number that is listed there.
"""

import math
import re
from typing import Any, NamedTuple

from benchmarks.jax_matrices.inputs import REFERENCE, named, place


class Question(NamedTuple):
    """``text`` is for people; ``arguments`` go to the function that ``kind`` names."""

    text: str
    kind: str
    arguments: dict[str, Any]
    listed: float | None = None


def _error(key: str, over: str) -> Question:
    (steps, _, _), (words, strategy) = place(key), named(key)
    listed = REFERENCE["strategies"][key][f"{over}_se"]
    arguments = {"strategy": strategy, "steps": steps, "over": over}
    return Question(f"{over} squared error: {words}, n = {steps}", "error", arguments, listed)


def _sensitivity(key: str) -> Question:
    (steps, most, apart), (words, strategy) = place(key), named(key)
    text = f"squared sensitivity: {words}, n = {steps}, k = {most}"
    arguments = {"strategy": strategy, "steps": steps, "most": most, "apart": apart}
    return Question(text, "sensitivity", arguments, REFERENCE["strategies"][key]["sens2"])


def _root(key: str, over: str, listed: float) -> Question:
    (steps, most, apart), (words, strategy) = place(key), named(key)
    text = f"root of the {over} error: {words}, n = {steps}, k = {most}"
    arguments = {"strategy": strategy, "steps": steps, "most": most, "apart": apart, "over": over}
    return Question(text, "root_error", arguments, listed)


def _others() -> list[Question]:
    """Other workloads, and columns of norm 1."""
    more = REFERENCE["more"]
    momentum, normalised = (
        "n128_k1/momentum0.9/banded_toeplitz_8",
        "n128_k16_b8/banded_toeplitz_8_column_normalised",
    )
    words, bands = named(momentum)
    asked = {"strategy": bands, "steps": 128, "beta": 0.9}
    text = f"root of the mean error: {words} for momentum .9, n = 128, k = 1"
    found = [Question(text, "momentum_error", asked, more[momentum]["rmse"])]
    for name in ("square_root", "identity"):
        words, strategy = named(name)
        text = f"root of the mean error: {words}, a rate that falls to 0, n = 128, k = 1"
        listed = more["n128_k1/linear_cooldown"][f"rmse_{name}"]
        asked = {"strategy": strategy, "steps": 128}
        found.append(Question(text, "schedule_error", asked, listed))
    words, bands = named(normalised)
    text = f"root of the mean error: {words}, columns of norm 1, n = 128, k = 16"
    asked = {"strategy": bands, "steps": 128, "most": 16}
    return [*found, Question(text, "normalised_error", asked, more[normalised]["rmse"])]


# Numbers that have one right answer: the two libraries have to agree.
VALUES = (
    _error("n128_k1_b128/square_root", "mean"),
    _error("n2048_k1_b2048/square_root", "max"),
    _error("n1024_k4_b256/bisr_4", "mean"),
    _error("n2048_k16_b128/bisr_16", "max"),
    _error("n1024_k4_b256/lambda_cgd_best_mean", "mean"),
    _sensitivity("n128_k16_b8/square_root"),
    _sensitivity("n1024_k4_b256/square_root"),
    _sensitivity("n2048_k16_b128/square_root"),
    _sensitivity("n1024_k4_b256/bisr_4"),
    _sensitivity("n2048_k16_b128/bisr_16"),
    _sensitivity("n128_k16_b8/bisr_64"),
    _sensitivity("n1024_k16_b64/lambda_cgd_best_mean"),
    *(
        _root(key, "mean", REFERENCE["strategies"][key]["rmse"])
        for key in ("n128_k4_b32/banded_toeplitz_8", "n2048_k16_b128/banded_toeplitz_16")
    ),
    *(
        _root(key, key.rpartition("_")[2], REFERENCE["blt"][key]["root"])
        for key in (
            "n128_k1_b128/blt_3_max",
            "n1024_k16_b64/blt_2_mean",
            "n2048_k4_b512/blt_3_mean",
        )
    ),
    *_others(),
    Question(
        "bound on the squared sensitivity: a matrix with signs, 3 epochs, n = 12",
        "epochs_sensitivity",
        {"steps": 12, "bands": 12, "most": 3},
    ),
    Question(
        "squared sensitivity: 3 bands with signs, 4 times, 3 apart, n = 12",
        "banded_sensitivity",
        {"steps": 12, "bands": 3, "most": 4, "apart": 3},
    ),
    Question(
        "bound on the squared sensitivity: a matrix with signs, 3 times, 2 apart, n = 12",
        "bound_of_sensitivity",
        {"steps": 12, "bands": 12, "most": 3, "apart": 2},
    ),
)


def _best(key: str, kind: str, text: str, error: str = "mean", **more: int) -> Question:
    """A search; ``key`` is one of the reference, or says nothing but the setting."""
    steps, most, _ = place(key)
    listed = REFERENCE["blt"].get(key, {}).get("root")
    found = REFERENCE["strategies"].get(key, REFERENCE["dense_fixed_epoch"].get(key, {}))
    if listed is None and "mean_se" in found:
        listed = math.sqrt(found["sens2"] * found[f"{error}_se"])
    asked = {"steps": steps, "most": most, "error": error, **more}
    return Question(f"{text}, n = {steps}, k = {most}, {error} error", kind, asked, listed)


def _bands(key: str) -> Question:
    bands, *largest = key.partition("toeplitz_")[2].split("_")
    error = "max" if largest else "mean"
    return _best(key, "best_bands", f"{bands} bands", error, bands=int(bands))


def _buffers(key: str) -> Question:
    count, error = key.split("_")[-2:]
    return _best(key, "best_buffers", f"{count} buffers", error, buffers=int(count))


# Searches: the answer is a strategy, which `judged` evaluates.
OPTIMA = (
    _bands("n128_k1_b128/banded_toeplitz_8"),
    _bands("n1024_k1_b1024/banded_toeplitz_16"),
    _bands("n1024_k16_b64/banded_toeplitz_64"),
    _bands("n1024_k4_b256/banded_toeplitz_256_max"),
    _buffers("n128_k4_b32/blt_2_mean"),
    _buffers("n128_k4_b32/blt_3_max"),
    _buffers("n1024_k1_b1024/blt_3_mean"),
    _buffers("n1024_k4_b256/blt_3_mean"),
    _buffers("n1024_k16_b64/blt_2_mean"),
    _buffers("n2048_k4_b512/blt_3_mean"),
    _best("n128_k1_b128/dense_opt", "best_matrix", "any matrix"),
    _best("n128_k4_b32/dense_opt", "best_matrix", "any matrix"),
    _best("n128_k16_b8", "best_columns", "8 bands of any shape", bands=8),
)


def _bands_in_words(bands: int | str) -> str:
    return "1 band" if int(bands) == 1 else f"{bands} bands"


def _cyclic(key: str, size: int = 16384) -> Question:
    """The noise that is listed meets its target: epsilon has to come out."""
    (setting, bands), known = key.split("/bands"), REFERENCE["amplified"][key]
    steps, epsilon, delta = (
        int(setting[1:].split("_")[0]),
        *re.findall(r"(?:eps|delta)([^_]+)", setting),
    )
    noise, batch = known["noise_multiplier"], round(known["sample_rate"] * size / int(bands))
    words = f"cyclic Poisson, {_bands_in_words(bands)}, s = {noise:.5g}"
    text = f"epsilon: {words}, n = {steps}, delta = {delta}"
    asked = {"noise": noise, "bands": int(bands), "batch": batch, "steps": steps, "size": size}
    return Question(text, "cyclic_epsilon", {**asked, "delta": float(delta)}, float(epsilon))


def _bins(coefficients: list[float], listed: float) -> Question:
    words = _bands_in_words(len(coefficients))
    text = f"delta: balls in 16 bins, {words}, s = 2, n = 64, epsilon = 1"
    asked = {"noise": 2.0, "coefficients": coefficients, "bins": 16, "steps": 64, "epsilon": 1.0}
    return Question(text, "bins_delta", asked, listed)


# What a run costs: dpfunc's answer is a proven upper bound.
PRIVACY = (
    _cyclic("n2048_k16_eps8.0_delta1e-06/bands1"),
    _cyclic("n2048_k16_eps8.0_delta1e-06/bands16"),
    _cyclic("n2048_k16_eps1.0_delta1e-06/bands16"),
    _cyclic("n1024_k16_eps2.0_delta1e-05/bands8"),
)


def _simulated() -> tuple[Question, ...]:
    one = REFERENCE["bins"]["n64_b16_k4_sigma2_eps1/identity"]
    four = REFERENCE["balls"]["n64_b16_k4_sigma2.0_eps1.0_p4"]
    scaled = [c / four["coefs"][0] for c in four["coefs"]]
    return (
        _bins([1.0], one["random_allocation_one_draw_sigma_over_sqrt_k"]),
        _bins(scaled, four["revealed_allocation_bound"]),
    )


# JAX-Privacy has a simulation for these, and dpfunc a proven bound.
SIMULATED = _simulated()
