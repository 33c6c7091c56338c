"""The pair of a release that reads each record in one of t steps, chosen at random.

In: the noise, or a pair that is given, and the number of steps.
Out: the pair: as a Fourier series with its error, or between two lists of losses.
Read first: `gaussian_allocation.py`, then `spread.py`.
"""
