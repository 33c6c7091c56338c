"""Sampling: which records take part in a step.

In: a key, a step, the size of the data and a rate.
Out: indices and a mask; as an event, what that means for privacy.
Read first: `scheme.py`.
"""

from dpfunc.sampling.afresh import FixedSize as FixedSize
from dpfunc.sampling.afresh import Poisson as Poisson
from dpfunc.sampling.afresh import TruncatedPoisson as TruncatedPoisson
from dpfunc.sampling.batches import Batches as Batches
from dpfunc.sampling.cyclic import CyclicPoisson as CyclicPoisson
from dpfunc.sampling.number_of_runs import runs_to_make as runs_to_make
from dpfunc.sampling.passes import Allocation as Allocation
from dpfunc.sampling.passes import BallsInBins as BallsInBins
from dpfunc.sampling.passes import Shuffled as Shuffled
from dpfunc.sampling.poisson import padded_size as padded_size
from dpfunc.sampling.poisson import poisson as poisson
from dpfunc.sampling.poisson import shard_of as shard_of
from dpfunc.sampling.users import UserRecords as UserRecords
