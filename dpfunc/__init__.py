"""Differentially private training of PyTorch models out of pure functions on torch.func.

The names and their homes are listed here and, for type checkers, in ``__init__.pyi``. A name is
imported when it is first used, so that ``from dpfunc import accounting`` does not import torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = ("accounting", "sampling")
_HOMES = {
    "Key": "dpfunc.random",
    "fold_in": "dpfunc.random",
    "key": "dpfunc.random",
    "laplace": "dpfunc.continuous",
    "normal": "dpfunc.continuous",
    "uniform": "dpfunc.continuous",
    "bernoulli": "dpfunc.discrete",
    "discrete_gaussian": "dpfunc.discrete",
    "discrete_laplace": "dpfunc.discrete",
    "rounded_normal": "dpfunc.rounded",
    "permutation": "dpfunc.subsets",
    "subset": "dpfunc.subsets",
    "per_sample_grad": "dpfunc.persample.dense",
    "per_sample_grad_and_loss": "dpfunc.persample.dense",
    "explain": "dpfunc.persample.explain",
    "factored_grad": "dpfunc.persample.factored",
    "batched": "dpfunc.persample.loss",
    "global_norm": "dpfunc.persample.reduce",
    "leaf_norms": "dpfunc.persample.reduce",
    "weighted_sum": "dpfunc.persample.reduce",
    "AutoClip": "dpfunc.clip",
    "Clip": "dpfunc.clip",
    "ClipPerLayer": "dpfunc.clip",
    "GaussianNoise": "dpfunc.noise",
    "PrivateGrad": "dpfunc.step",
    "compile": "dpfunc.compiled",
    "PrivacyEngine": "dpfunc.engine",
    "BudgetSpentError": "dpfunc.loop.budget",
    "monitor": "dpfunc.monitoring",
    "named_params": "dpfunc.modules",
    "set_grads_": "dpfunc.modules",
    "check_module": "dpfunc.checking.check",
    "fix_module": "dpfunc.fixing",
    "fix_report": "dpfunc.fixing",
}
__all__ = [*_MODULES, *_HOMES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"dpfunc.{name}")
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next use finds it without this function
        return value
    raise AttributeError(f"module 'dpfunc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
