"""Correlated noise: strategies, how private they are, and what error they leave.

In: a number of steps, bands or buffers, who takes part how often, a target.
Out: strategies, their certified sensitivity, their errors, a noise multiplier.
Read first: `unamplified.py`.

The noise of later steps takes back part of that of earlier ones, so that the sums that an
optimiser makes have less of it (DP-FTRL, matrix factorisation; a survey: arXiv:2506.08201).
Nothing here imports torch. `CorrelatedNoise` is the mechanism.
"""

from dpfunc.accounting.lazily import from_homes
from dpfunc.correlated.unamplified import unamplified as unamplified

_HOMES = {
    "noise_multiplier": "dpfunc.correlated.calibrate",
    "banded": "dpfunc.strategies.make",
    "buffered": "dpfunc.strategies.make",
    "dense": "dpfunc.strategies.make",
    "fractional": "dpfunc.strategies.make",
    "identity": "dpfunc.strategies.make",
    "lambda_cgd": "dpfunc.strategies.make",
    "square_root": "dpfunc.strategies.make",
    "square_root_inverse": "dpfunc.strategies.make",
    "Participation": "dpfunc.strategies.participation",
    "Buffered": "dpfunc.strategies.records",
    "Dense": "dpfunc.strategies.records",
    "InverseToeplitz": "dpfunc.strategies.records",
    "Toeplitz": "dpfunc.strategies.records",
    "column_norm": "dpfunc.strategies.sensitivity",
    "sensitivity": "dpfunc.strategies.sensitivity",
    "tree_errors": "dpfunc.strategies.tree",
    "tree_sensitivity": "dpfunc.strategies.tree",
    "errors": "dpfunc.strategies.workloads",
    "momentum": "dpfunc.strategies.workloads",
    "noise_norm": "dpfunc.strategies.workloads",
    "prefix_sums": "dpfunc.strategies.workloads",
    "schedule": "dpfunc.strategies.workloads",
}
__all__ = ["unamplified", *_HOMES]
__getattr__ = from_homes(__name__, _HOMES, globals())


def __dir__() -> list[str]:
    return __all__
