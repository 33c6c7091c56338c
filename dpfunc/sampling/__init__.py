"""Sampling: which records take part in a step.

In: a key, a step, the size of the data and a rate.
Out: indices and a mask.
Read first: `poisson.py`.
"""

from dpfunc.sampling.number_of_runs import runs_to_make as runs_to_make
from dpfunc.sampling.poisson import padded_size as padded_size
from dpfunc.sampling.poisson import poisson as poisson
