"""Correlated noise: strategies, how private they are, and what error they leave.

In: a number of steps, bands or buffers, who takes part how often, a target.
Out: strategies, their certified sensitivity, their errors, a noise multiplier.
Read first: `unamplified.py`.

The noise of later steps takes back part of that of earlier ones, so that the sums that an
optimiser makes have less of it (DP-FTRL, matrix factorisation; a survey: arXiv:2506.08201).
Nothing here imports torch. `CorrelatedNoise` is the mechanism.
"""

from dpfunc.correlated.calibrate import noise_multiplier as noise_multiplier
from dpfunc.correlated.unamplified import unamplified as unamplified
from dpfunc.strategies.make import banded as banded
from dpfunc.strategies.make import buffered as buffered
from dpfunc.strategies.make import dense as dense
from dpfunc.strategies.make import fractional as fractional
from dpfunc.strategies.make import identity as identity
from dpfunc.strategies.make import lambda_cgd as lambda_cgd
from dpfunc.strategies.make import square_root as square_root
from dpfunc.strategies.make import square_root_inverse as square_root_inverse
from dpfunc.strategies.participation import Participation as Participation
from dpfunc.strategies.records import Buffered as Buffered
from dpfunc.strategies.records import Dense as Dense
from dpfunc.strategies.records import InverseToeplitz as InverseToeplitz
from dpfunc.strategies.records import Toeplitz as Toeplitz
from dpfunc.strategies.sensitivity import column_norm as column_norm
from dpfunc.strategies.sensitivity import sensitivity as sensitivity
from dpfunc.strategies.tree import tree_errors as tree_errors
from dpfunc.strategies.tree import tree_sensitivity as tree_sensitivity
from dpfunc.strategies.workloads import errors as errors
from dpfunc.strategies.workloads import momentum as momentum
from dpfunc.strategies.workloads import noise_norm as noise_norm
from dpfunc.strategies.workloads import prefix_sums as prefix_sums
from dpfunc.strategies.workloads import schedule as schedule
