"""Strategies: the matrices of correlated noise, on NumPy and SciPy alone.

In: a number of steps, how many bands or buffers, who takes part how often, what is to be summed.
Out: a strategy, its sensitivity (certified), the errors that its noise leaves.
Read first: `records.py`.
"""
