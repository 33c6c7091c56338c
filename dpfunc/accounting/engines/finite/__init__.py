"""Losses of finitely many values, listed with their probabilities: no grid, only rounding.

In: a composition of pairs with finitely many losses.
Out: intervals of epsilon and of delta, a rounding error wide.
Read first: `law.py`.
"""
