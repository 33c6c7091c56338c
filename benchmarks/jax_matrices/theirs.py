"""A process with JAX-Privacy that answers questions.

    python -m benchmarks.jax_matrices.theirs < QUESTIONS > ANSWERS

In comes a JSON list of ``[kind, arguments]``, out goes a list of answers as JSON: numbers, and for
the searches the first column of a Toeplitz matrix, or a whole matrix. It runs in an environment of
its own, so it imports nothing of torch or dpfunc. All is computed in float64.
"""

import json
import sys
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402  (after the line that decides its precision)
import numpy as np  # noqa: E402
from jax_privacy import accounting, batch_selection  # noqa: E402
from jax_privacy.experimental.monte_carlo import delta_calculation, sample_generation  # noqa: E402
from jax_privacy.matrix_factorization import (  # noqa: E402
    banded,
    buffered_toeplitz,
    dense,
    sensitivity,
    streaming_matrix,
    toeplitz,
)

from benchmarks.jax_matrices.inputs import falling, with_signs  # noqa: E402

REDUCTIONS = {"mean": jnp.mean, "max": jnp.max}
SAMPLES = 50_000  # of a Monte Carlo answer


def blt(strategy: dict) -> buffered_toeplitz.BufferedToeplitz:
    return buffered_toeplitz.BufferedToeplitz.build(strategy["decays"], strategy["weights"])


def inverse(strategy: dict) -> jax.Array | None:
    """The coefficients of ``C^-1`` where the strategy is given by them."""
    match strategy["name"]:
        case "square_root_inverse":
            return toeplitz.optimal_max_error_noising_coefs(strategy["bands"])
        case "lambda_cgd":
            return jnp.array([1.0, -strategy["lambda_"]])
    return None


def column(strategy: dict, steps: int) -> jax.Array:
    """The coefficients of C, those that are not 0."""
    match strategy["name"]:
        case "square_root":
            return toeplitz.optimal_max_error_strategy_coefs(steps)
        case "buffered":
            return blt(strategy).toeplitz_coefs(steps)
        case "bands":
            return jnp.array(strategy["coefficients"])
    return toeplitz.inverse_coef(inverse(strategy), n=steps)


def error(strategy: dict, steps: int, over: str) -> float:
    noising = inverse(strategy)
    if strategy["name"] == "buffered":
        noising = blt(strategy).inverse().toeplitz_coefs(steps)
    if noising is None:
        found = toeplitz.per_query_error(strategy_coef=column(strategy, steps), n=steps)
    else:  # padded: of fewer than n coefficients it gives so many errors, not n
        padded = toeplitz.pad_coefs_to_n(noising, steps)
        found = toeplitz.per_query_error(noising_coef=padded, n=steps)
    return REDUCTIONS[over](found)


def root_error(strategy: dict, steps: int, most: int, apart: int, over: str) -> float:
    square = sensitivity_of(strategy, steps, most, apart)
    return jnp.sqrt(error(strategy, steps, over) * square)


def momentum_error(strategy: dict, steps: int, beta: float) -> float:
    workload = streaming_matrix.momentum_sgd_matrix(momentum=beta)
    coefs = column(strategy, steps)
    noising = toeplitz.inverse_as_streaming_matrix(coefs)
    found = (workload @ noising).row_norms_squared(steps).mean()
    return jnp.sqrt(found * toeplitz.sensitivity_squared(coefs, steps))


def schedule_error(strategy: dict, steps: int) -> float:
    c = toeplitz.materialize_lower_triangular(column(strategy, steps), n=steps)
    workload = jnp.tril(jnp.broadcast_to(jnp.array(falling(steps)), (steps, steps)))
    found = dense.per_query_error(strategy_matrix=c, workload_matrix=workload).mean()
    return jnp.sqrt(found) * sensitivity.single_participation_sensitivity(c)


def normalised_error(strategy: dict, steps: int, most: int) -> float:
    coefs = column(strategy, steps)
    c = banded.ColumnNormalizedBanded.from_banded_toeplitz(steps, coefs)
    square = banded.minsep_sensitivity_squared(c, steps // most, most)
    return jnp.sqrt(banded.per_query_error(c).mean() * square)


def sensitivity_of(strategy: dict, steps: int, most: int, apart: int) -> float:
    if strategy["name"] == "buffered" and most == 1:  # a closed form of its own
        return buffered_toeplitz.sensitivity_squared(blt(strategy), steps)
    coefs = column(strategy, steps)
    return toeplitz.minsep_sensitivity_squared(coefs, apart, max_participations=most, n=steps)


def epochs_sensitivity(steps: int, bands: int, most: int) -> float:
    c = jnp.array(with_signs(steps, bands))
    return sensitivity.fixed_epoch_sensitivity(c, most) ** 2


def banded_sensitivity(steps: int, bands: int, most: int, apart: int) -> float:
    c = jnp.array(with_signs(steps, bands))
    return sensitivity.get_sensitivity_banded(c, apart, most) ** 2


def bound_of_sensitivity(steps: int, bands: int, most: int, apart: int) -> float:
    c = jnp.array(with_signs(steps, bands))
    return sensitivity.get_min_sep_sensitivity_upper_bound(c, apart, most) ** 2


def best_bands(*, steps: int, bands: int, error: str, **_: int) -> jax.Array:
    reduction = REDUCTIONS[error]
    coefs = toeplitz.optimize_banded_toeplitz(steps, bands, reduction_fn=reduction)
    return toeplitz.pad_coefs_to_n(coefs, steps)


def best_buffers(steps: int, most: int, buffers: int, error: str) -> jax.Array:
    found = buffered_toeplitz.optimize(
        n=steps,
        min_sep=steps // most,
        max_participations=most,
        error=error,
        min_buffers=buffers,
        max_buffers=buffers,
    )
    return found.toeplitz_coefs(steps)


def best_matrix(steps: int, most: int, error: str) -> jax.Array:
    return dense.optimize(steps, epochs=most, reduction_fn=REDUCTIONS[error])


def best_columns(*, steps: int, bands: int, error: str, **_: int) -> jax.Array:
    return banded.optimize(steps, bands=bands, reduction_fn=REDUCTIONS[error]).materialize()


def cyclic_epsilon(
    noise: float, bands: int, batch: int, steps: int, size: int, delta: float
) -> float:
    asked = accounting.DpParams(
        noise_multipliers=noise,
        num_samples=size,
        batch_size=batch,
        delta=delta,
        cycle_length=bands,
    )
    accountant = accounting.DpsgdTrainingAccountant(accounting.PldAccountantConfig())
    return accountant.compute_epsilon(steps, asked)


def bins_delta(noise: float, coefficients: list, bins: int, steps: int, epsilon: float) -> float:
    """The larger of the two directions, each by Monte Carlo."""
    scheme = batch_selection.BallsInBinsSampling(iterations=steps, cycle_length=bins)
    c = np.array(coefficients) / np.linalg.norm(coefficients)
    return max(
        delta_calculation.delta_from_epsilon_and_samples(
            epsilon,
            sample_generation.get_privacy_loss_sample(
                scheme, noise, c, seed=7, positive_sample=positive, num_samples=SAMPLES
            )[0],
        )
        for positive in (True, False)
    )


ANSWERS = {
    "error": error,
    "root_error": root_error,
    "momentum_error": momentum_error,
    "schedule_error": schedule_error,
    "normalised_error": normalised_error,
    "sensitivity": sensitivity_of,
    "epochs_sensitivity": epochs_sensitivity,
    "banded_sensitivity": banded_sensitivity,
    "bound_of_sensitivity": bound_of_sensitivity,
    "best_bands": best_bands,
    "best_buffers": best_buffers,
    "best_matrix": best_matrix,
    "best_columns": best_columns,
    "cyclic_epsilon": cyclic_epsilon,
    "bins_delta": bins_delta,
}


def main() -> None:
    answers: list[Any] = []
    for kind, arguments in json.load(sys.stdin):
        answers.append(np.asarray(ANSWERS[kind](**arguments)).tolist())
        print(kind, file=sys.stderr, flush=True)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
