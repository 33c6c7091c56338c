"""The accountant: descriptions of what was released in, (epsilon, delta) out.

Pure functions of frozen descriptions, on NumPy and SciPy alone: no torch and no state. (Tables of
the latest random allocations are kept: functions of their numbers, slow to work out.) Every answer
holds under adding or removing one record (the neighbouring relation), for an adversary who sees
every release, and assumes that the sampling really is what the event says.

>>> event = dp_sgd(noise_multiplier=1.1, sample_rate=256 / 60_000, steps=14_000)
>>> f"{epsilon(event, delta=1e-5):.3f}"
'2.376'
"""

from dpfunc.accounting.lazily import from_homes

_HOMES = {
    "Bounds": "dpfunc.accounting.engines.bounds",
    "rdp": "dpfunc.accounting.engines.renyi.divergence",
    "Compose": "dpfunc.accounting.events.algebra",
    "Event": "dpfunc.accounting.events.algebra",
    "Repeat": "dpfunc.accounting.events.algebra",
    "from_dp_event": "dpfunc.accounting.events.dp_event",
    "to_dp_event": "dpfunc.accounting.events.dp_event",
    "dp_sgd": "dpfunc.accounting.events.dp_sgd",
    "Pair": "dpfunc.accounting.events.given",
    "thresholded_histogram": "dpfunc.accounting.events.histograms",
    "ZCDP": "dpfunc.accounting.events.mechanisms",
    "ApproxDP": "dpfunc.accounting.events.mechanisms",
    "DiscreteGaussian": "dpfunc.accounting.events.mechanisms",
    "DiscreteLaplace": "dpfunc.accounting.events.mechanisms",
    "ExponentialMechanism": "dpfunc.accounting.events.mechanisms",
    "Gaussian": "dpfunc.accounting.events.mechanisms",
    "Laplace": "dpfunc.accounting.events.mechanisms",
    "MixtureOfGaussians": "dpfunc.accounting.events.mechanisms",
    "NonPrivate": "dpfunc.accounting.events.mechanisms",
    "PureDP": "dpfunc.accounting.events.mechanisms",
    "RandomizedResponse": "dpfunc.accounting.events.mechanisms",
    "Group": "dpfunc.accounting.events.schemes",
    "OneRecord": "dpfunc.accounting.events.schemes",
    "Poisson": "dpfunc.accounting.events.schemes",
    "RandomAllocation": "dpfunc.accounting.events.schemes",
    "Shuffled": "dpfunc.accounting.events.schemes",
    "TruncatedPoisson": "dpfunc.accounting.events.schemes",
    "WithoutReplacement": "dpfunc.accounting.events.schemes",
    "WithReplacement": "dpfunc.accounting.events.schemes",
    "PrivateSelection": "dpfunc.accounting.events.selection",
    "from_json": "dpfunc.accounting.events.serialise",
    "to_json": "dpfunc.accounting.events.serialise",
    "delta": "dpfunc.accounting.questions.answers",
    "delta_bounds": "dpfunc.accounting.questions.answers",
    "epsilon": "dpfunc.accounting.questions.answers",
    "epsilon_bounds": "dpfunc.accounting.questions.answers",
    "BudgetCurve": "dpfunc.accounting.questions.budget",
    "batch_size": "dpfunc.accounting.questions.calibrate",
    "noise_multiplier": "dpfunc.accounting.questions.calibrate",
    "sample_rate": "dpfunc.accounting.questions.calibrate",
    "steps": "dpfunc.accounting.questions.calibrate",
    "epsilon_curve": "dpfunc.accounting.questions.curve",
    "epsilon_curve_bounds": "dpfunc.accounting.questions.curve",
    "ConcentratedFilter": "dpfunc.accounting.questions.filters",
    "GaussianFilter": "dpfunc.accounting.questions.filters",
    "RenyiFilter": "dpfunc.accounting.questions.filters",
    "RenyiOdometer": "dpfunc.accounting.questions.filters",
    "best_order": "dpfunc.accounting.questions.filters",
    "advantage": "dpfunc.accounting.questions.tradeoff",
    "bayes_risk": "dpfunc.accounting.questions.tradeoff",
    "gdp_mu": "dpfunc.accounting.questions.tradeoff",
    "reconstruction": "dpfunc.accounting.questions.tradeoff",
    "tradeoff": "dpfunc.accounting.questions.tradeoff",
    "tradeoff_curve": "dpfunc.accounting.questions.tradeoff",
}
__all__ = list(_HOMES)
__getattr__ = from_homes(__name__, _HOMES, globals())


def __dir__() -> list[str]:
    return __all__
