"""Experiments: many runs over settings and seeds, and what it costs to have looked at them.

In: a function that makes one run, a grid of settings, a file.
Out: a row for each run, tables and pictures of them, the best of them with the price of choosing.
Read first: `sweeps.py`.
"""

from dpfunc.experiments.rows import Row as Row
from dpfunc.experiments.selecting import Selected as Selected
from dpfunc.experiments.selecting import select as select
from dpfunc.experiments.sweeps import sweep as sweep
from dpfunc.experiments.tables import plot as plot
from dpfunc.experiments.tables import spent as spent
from dpfunc.experiments.tables import table as table
