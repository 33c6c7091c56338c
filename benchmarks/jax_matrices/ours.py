"""dpfunc's answers to the questions, by its public names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.jax_matrices.inputs import falling, with_signs
from dpfunc import accounting, correlated, sampling
from dpfunc.correlated import Participation, errors, sensitivity
from dpfunc.strategies.banded_optimum import Error
from dpfunc.strategies.records import Strategy, matrix

Floats = NDArray[np.float64]
REDUCTIONS = {"mean": np.mean, "max": np.max}


def made(strategy: dict[str, Any], steps: int) -> Strategy:
    match strategy["name"]:
        case "square_root":
            return correlated.square_root(steps=steps, bits=None)
        case "square_root_inverse":
            return correlated.square_root_inverse(steps=steps, bands=strategy["bands"])
        case "lambda_cgd":
            return correlated.lambda_cgd(steps=steps, lambda_=strategy["lambda_"])
        case "buffered":
            decays, weights = strategy["decays"], strategy["weights"]
            return correlated.Buffered(steps, tuple(decays), tuple(weights))
    return correlated.Toeplitz(steps, tuple(strategy["coefficients"]))


def as_dense(c: Floats) -> correlated.Dense:
    return correlated.Dense(tuple(tuple(row[: t + 1].tolist()) for t, row in enumerate(c)))


def error(strategy: dict[str, Any], steps: int, over: str) -> float:
    return float(REDUCTIONS[over](errors(made(strategy, steps))))


def root_error(strategy: dict[str, Any], steps: int, most: int, apart: int, over: str) -> float:
    size = sensitivity(made(strategy, steps), Participation(most, apart))
    return error(strategy, steps, over) ** 0.5 * size


def _root(strategy: Strategy, workload: Floats | None, participation: Participation) -> float:
    left = errors(strategy, workload).mean()
    return float(left**0.5) * sensitivity(strategy, participation)


def momentum_error(strategy: dict[str, Any], steps: int, beta: float) -> float:
    workload = correlated.momentum(steps, beta=beta)
    return _root(made(strategy, steps), workload, Participation(1, 1))


def schedule_error(strategy: dict[str, Any], steps: int) -> float:
    workload = correlated.schedule(np.array(falling(steps)))
    return _root(made(strategy, steps), workload, Participation(1, 1))


def normalised_error(strategy: dict[str, Any], steps: int, most: int) -> float:
    c = matrix(made(strategy, steps))
    normal = as_dense(c / np.linalg.norm(c, axis=0))
    return _root(normal, None, Participation(most, steps // most))


def sensitivity_of(strategy: dict[str, Any], steps: int, most: int, apart: int) -> float:
    return sensitivity(made(strategy, steps), Participation(most, apart)) ** 2


def epochs_sensitivity(steps: int, bands: int, most: int) -> float:
    strategy = as_dense(np.array(with_signs(steps, bands)))
    return sensitivity(strategy, Participation(most, steps // most, evenly_spaced=True)) ** 2


def signs_sensitivity(steps: int, bands: int, most: int, apart: int) -> float:
    strategy = as_dense(np.array(with_signs(steps, bands)))
    return sensitivity(strategy, Participation(most, apart)) ** 2


def best_bands(*, steps: int, bands: int, error: Error, **_: int) -> Floats:
    """Toeplitz bands: dpfunc has no others."""
    return correlated.banded(steps=steps, bands=bands, error=error).column()


def best_buffers(steps: int, most: int, buffers: int, error: Error) -> Floats:
    found = correlated.buffered(
        steps=steps, buffers=buffers, participation=Participation(most, steps // most), error=error
    )
    return found.column()


def best_matrix(*, steps: int, most: int, **_: str) -> Floats:
    """For the mean error, the only one that dpfunc has here."""
    return matrix(correlated.dense(steps=steps, epochs=most))


def cyclic_epsilon(
    noise: float, bands: int, batch: int, steps: int, size: int, delta: float
) -> float:
    sampler = sampling.CyclicPoisson(size=size, rate=bands * batch / size, cycle=bands)
    strategy = correlated.banded(steps=steps, bands=bands)
    event = sampler.event(noise, steps=steps, strategy=strategy)
    return accounting.epsilon(event, delta=delta)


def bins_delta(
    noise: float, coefficients: list[float], bins: int, steps: int, epsilon: float
) -> float:
    strategy = correlated.Toeplitz(steps, tuple(coefficients))
    event = sampling.BallsInBins(size=1000, bins=bins).event(noise, steps=steps, strategy=strategy)
    return accounting.delta(event, epsilon=epsilon)


ANSWERS = {
    "error": error,
    "root_error": root_error,
    "momentum_error": momentum_error,
    "schedule_error": schedule_error,
    "normalised_error": normalised_error,
    "sensitivity": sensitivity_of,
    "epochs_sensitivity": epochs_sensitivity,
    "banded_sensitivity": signs_sensitivity,
    "bound_of_sensitivity": signs_sensitivity,
    "best_bands": best_bands,
    "best_buffers": best_buffers,
    "best_matrix": best_matrix,
    "best_columns": best_bands,
    "cyclic_epsilon": cyclic_epsilon,
    "bins_delta": bins_delta,
}
