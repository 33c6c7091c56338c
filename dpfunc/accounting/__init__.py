"""The accountant: descriptions of what was released in, (epsilon, delta) out.

Pure functions of frozen descriptions, on NumPy and SciPy alone: no torch and no state. (Tables of
the latest random allocations are kept: functions of their numbers, slow to work out.) Every answer
holds under adding or removing one record (the neighbouring relation), for an adversary who sees
every release, and assumes that the sampling really is what the event says.

>>> event = dp_sgd(noise_multiplier=1.1, sample_rate=256 / 60_000, steps=14_000)
>>> f"{epsilon(event, delta=1e-5):.3f}"
'2.376'
"""

from dpfunc.accounting.engines.bounds import Bounds as Bounds
from dpfunc.accounting.engines.renyi.divergence import rdp as rdp
from dpfunc.accounting.events.algebra import Compose as Compose
from dpfunc.accounting.events.algebra import Event as Event
from dpfunc.accounting.events.algebra import Repeat as Repeat
from dpfunc.accounting.events.dp_event import from_dp_event as from_dp_event
from dpfunc.accounting.events.dp_event import to_dp_event as to_dp_event
from dpfunc.accounting.events.dp_sgd import dp_sgd as dp_sgd
from dpfunc.accounting.events.given import Pair as Pair
from dpfunc.accounting.events.histograms import thresholded_histogram as thresholded_histogram
from dpfunc.accounting.events.mechanisms import ZCDP as ZCDP
from dpfunc.accounting.events.mechanisms import ApproxDP as ApproxDP
from dpfunc.accounting.events.mechanisms import DiscreteGaussian as DiscreteGaussian
from dpfunc.accounting.events.mechanisms import DiscreteLaplace as DiscreteLaplace
from dpfunc.accounting.events.mechanisms import ExponentialMechanism as ExponentialMechanism
from dpfunc.accounting.events.mechanisms import Gaussian as Gaussian
from dpfunc.accounting.events.mechanisms import Laplace as Laplace
from dpfunc.accounting.events.mechanisms import MixtureOfGaussians as MixtureOfGaussians
from dpfunc.accounting.events.mechanisms import NonPrivate as NonPrivate
from dpfunc.accounting.events.mechanisms import PureDP as PureDP
from dpfunc.accounting.events.mechanisms import RandomizedResponse as RandomizedResponse
from dpfunc.accounting.events.schemes import Group as Group
from dpfunc.accounting.events.schemes import OneRecord as OneRecord
from dpfunc.accounting.events.schemes import Poisson as Poisson
from dpfunc.accounting.events.schemes import RandomAllocation as RandomAllocation
from dpfunc.accounting.events.schemes import Shuffled as Shuffled
from dpfunc.accounting.events.schemes import TruncatedPoisson as TruncatedPoisson
from dpfunc.accounting.events.schemes import WithoutReplacement as WithoutReplacement
from dpfunc.accounting.events.schemes import WithReplacement as WithReplacement
from dpfunc.accounting.events.selection import PrivateSelection as PrivateSelection
from dpfunc.accounting.events.serialise import from_json as from_json
from dpfunc.accounting.events.serialise import to_json as to_json
from dpfunc.accounting.questions.answers import delta as delta
from dpfunc.accounting.questions.answers import delta_bounds as delta_bounds
from dpfunc.accounting.questions.answers import epsilon as epsilon
from dpfunc.accounting.questions.answers import epsilon_bounds as epsilon_bounds
from dpfunc.accounting.questions.budget import BudgetCurve as BudgetCurve
from dpfunc.accounting.questions.calibrate import batch_size as batch_size
from dpfunc.accounting.questions.calibrate import noise_multiplier as noise_multiplier
from dpfunc.accounting.questions.calibrate import sample_rate as sample_rate
from dpfunc.accounting.questions.calibrate import steps as steps
from dpfunc.accounting.questions.curve import epsilon_curve as epsilon_curve
from dpfunc.accounting.questions.curve import epsilon_curve_bounds as epsilon_curve_bounds
from dpfunc.accounting.questions.filters import ConcentratedFilter as ConcentratedFilter
from dpfunc.accounting.questions.filters import GaussianFilter as GaussianFilter
from dpfunc.accounting.questions.filters import RenyiFilter as RenyiFilter
from dpfunc.accounting.questions.filters import RenyiOdometer as RenyiOdometer
from dpfunc.accounting.questions.filters import best_order as best_order
from dpfunc.accounting.questions.tradeoff import advantage as advantage
from dpfunc.accounting.questions.tradeoff import bayes_risk as bayes_risk
from dpfunc.accounting.questions.tradeoff import gdp_mu as gdp_mu
from dpfunc.accounting.questions.tradeoff import reconstruction as reconstruction
from dpfunc.accounting.questions.tradeoff import tradeoff as tradeoff
from dpfunc.accounting.questions.tradeoff import tradeoff_curve as tradeoff_curve
