"""The accountant: descriptions of what was released in, (epsilon, delta) out.

Pure functions of frozen descriptions, on NumPy and SciPy alone: no torch, no state, no hidden
cache. Every answer holds under adding or removing one record (the neighbouring relation), for an
adversary who sees every release, and assumes that the sampling really is what the event says.

>>> event = dp_sgd(noise_multiplier=1.1, sample_rate=256 / 60_000, steps=14_000)
>>> f"{epsilon(event, delta=1e-5):.3f}"
'2.376'
"""

from dpfunc.accounting.bounds import Bounds as Bounds
from dpfunc.accounting.calibrate import batch_size as batch_size
from dpfunc.accounting.calibrate import noise_multiplier as noise_multiplier
from dpfunc.accounting.calibrate import sample_rate as sample_rate
from dpfunc.accounting.calibrate import steps as steps
from dpfunc.accounting.curve import epsilon_curve as epsilon_curve
from dpfunc.accounting.events import Compose as Compose
from dpfunc.accounting.events import Event as Event
from dpfunc.accounting.events import Gaussian as Gaussian
from dpfunc.accounting.events import Poisson as Poisson
from dpfunc.accounting.events import Repeat as Repeat
from dpfunc.accounting.events import dp_sgd as dp_sgd
from dpfunc.accounting.questions import delta as delta
from dpfunc.accounting.questions import delta_bounds as delta_bounds
from dpfunc.accounting.questions import epsilon as epsilon
from dpfunc.accounting.questions import epsilon_bounds as epsilon_bounds
from dpfunc.accounting.tradeoff import advantage as advantage
from dpfunc.accounting.tradeoff import bayes_risk as bayes_risk
from dpfunc.accounting.tradeoff import gdp_mu as gdp_mu
from dpfunc.accounting.tradeoff import reconstruction as reconstruction
from dpfunc.accounting.tradeoff import tradeoff as tradeoff
