"""Checks of a training step of any library: its sums, its noise, its sampler, a whole run.

In: the step as a function of a few lines, a batch, a bound.
Out: a `Report` of what is wrong, as a table and as JSON.
Read first: `step_check.py`.
"""
