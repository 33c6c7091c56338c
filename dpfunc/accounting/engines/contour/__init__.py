"""The contour engine: delta as an integral over moments, for sampled Gaussians in any number.

In: a composition of Gaussian mixture pairs.
Out: intervals of epsilon and of delta, for many step counts at once.
Read first: `integral.py`.
"""
