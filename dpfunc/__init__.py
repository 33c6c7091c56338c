"""Differentially private training of PyTorch models out of pure functions on torch.func.

The names and their homes are listed here and, for type checkers, in ``__init__.pyi``. A name is
imported when it is first used, so that ``from dpfunc import accounting`` does not import torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = (
    "accounting",
    "audit",
    "correlated",
    "distributed",
    "experiments",
    "optim",
    "queries",
    "sampling",
)
_HOMES = {
    "Key": "dpfunc.random.keys",
    "fold_in": "dpfunc.random.keys",
    "key": "dpfunc.random.keys",
    "load_key": "dpfunc.random.key_files",
    "save_key": "dpfunc.random.key_files",
    "laplace": "dpfunc.random.continuous",
    "normal": "dpfunc.random.continuous",
    "uniform": "dpfunc.random.continuous",
    "bernoulli": "dpfunc.random.discrete",
    "discrete_gaussian": "dpfunc.random.discrete",
    "discrete_laplace": "dpfunc.random.discrete",
    "rounded_normal": "dpfunc.random.rounded",
    "permutation": "dpfunc.random.subsets",
    "subset": "dpfunc.random.subsets",
    "per_sample_grad": "dpfunc.persample.definition.dense",
    "per_sample_grad_and_loss": "dpfunc.persample.definition.dense",
    "explain": "dpfunc.persample.explain",
    "factored_grad": "dpfunc.persample.factored",
    "batched": "dpfunc.persample.definition.loss",
    "views": "dpfunc.persample.definition.views",
    "global_norm": "dpfunc.persample.factors.reduce",
    "leaf_norms": "dpfunc.persample.factors.reduce",
    "weighted_sum": "dpfunc.persample.factors.reduce",
    "AdaptiveClip": "dpfunc.clipping.adaptive",
    "AutoClip": "dpfunc.clipping.rules",
    "Clip": "dpfunc.clipping.rules",
    "ClipPerLayer": "dpfunc.clipping.rules",
    "GaussianNoise": "dpfunc.noise.gaussian",
    "CorrelatedNoise": "dpfunc.noise.correlated",
    "explain_noise": "dpfunc.noise.lattice",
    "PrivateGrad": "dpfunc.step.private_grad",
    "compile": "dpfunc.step.compiled",
    "release_users": "dpfunc.step.users",
    "UserRounds": "dpfunc.step.users",
    "PrivacyEngine": "dpfunc.engine.privacy_engine",
    "BudgetSpentError": "dpfunc.engine.budget",
    "monitor": "dpfunc.monitoring.monitor",
    "named_params": "dpfunc.modules.parameters",
    "set_grads_": "dpfunc.modules.parameters",
    "loss_of": "dpfunc.modules.losses",
    "check_module": "dpfunc.modules.checking.check",
    "fix_module": "dpfunc.modules.mending.fixing",
    "fix_report": "dpfunc.modules.mending.fixing",
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
