"""Clip rules: how much of each sample may enter a sum.

In: norms of per-sample gradients, by parameter.
Out: `Weights`, with the L2 bound of the sum that they make.
Read first: `rules.py`.
"""
