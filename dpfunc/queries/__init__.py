"""Queries: private numbers without a model, as sums that a noise mechanism takes.

In: data, one record an entry of axis 0, and public ranges.
Out: a `Summed`, with the bound that the noise needs.
Read first: `bounded_sums.py`.
"""

from dpfunc.queries.bounded_sums import Mean as Mean
from dpfunc.queries.bounded_sums import count as count
from dpfunc.queries.bounded_sums import histogram as histogram
from dpfunc.queries.bounded_sums import mean as mean
from dpfunc.queries.bounded_sums import together as together
from dpfunc.queries.bounded_sums import total as total
from dpfunc.queries.noisy_quantile import quantile as quantile
