"""The pair of a Gaussian release that reads each record in one of t steps, chosen at random.

In: the noise and the number of steps.
Out: the pair, as a Fourier series with its error.
Read first: `gaussian_allocation.py`.
"""
