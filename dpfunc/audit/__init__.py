"""Audits: what a mechanism, a step or a trained model really gave away.

In: scores of canaries, the step of any library, a trained model.
Out: lower bounds and p-values, reports of faults, attacks and their curves.
Read first: `statistics/answers.py`.

An audit can refute a claim of privacy; it can never prove one. The statistics need no torch, so
that names are imported when they are first used.
"""

from importlib import import_module

_MODULES = {"attacks": "membership.attacks"}
_HOMES = {
    "Canaries": "canaries.gradient_canaries",
    "ReleaseAudit": "canaries.release",
    "audit_release": "canaries.release",
    "coins": "canaries.gradient_canaries",
    "gradient_canaries": "canaries.gradient_canaries",
    "real_numbers": "canaries.gradient_canaries",
    "release_scores": "canaries.release",
    "uncorrelated": "canaries.uncorrelated",
    "Estimate": "membership.curves",
    "Roc": "membership.curves",
    "ShadowModels": "membership.shadow_models",
    "loss_scores": "membership.signals",
    "plot_roc": "membership.picture",
    "roc": "membership.curves",
    "shadow_models": "membership.shadow_models",
    "Result": "statistics.scores",
    "Scores": "statistics.scores",
    "epsilon_lower_bound": "statistics.answers",
    "gaussian_epsilon": "statistics.answers",
    "mu_lower_bound": "statistics.answers",
    "test_claim": "statistics.answers",
    "Finding": "steps.report",
    "Report": "steps.report",
    "check_noise": "steps.noise_check",
    "check_sampler": "steps.sampler_check",
    "check_step": "steps.step_check",
    "of_private_grad": "steps.adapters",
    "replay": "steps.replay",
    "Sequential": "statistics.sequential",
    "SequentialState": "statistics.sequential",
}
__all__ = [*_MODULES, *_HOMES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"dpfunc.audit.{_MODULES[name]}")
    if name in _HOMES:
        value: object = getattr(import_module(f"dpfunc.audit.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dpfunc.audit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
