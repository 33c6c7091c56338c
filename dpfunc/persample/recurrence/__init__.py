"""Recurrences over time: the equations of the cells, and whole passes with a backward by hand.

In: inputs over time, states, weights.
Out: outputs, and for each use of a weight what its per-sample gradients are made of.
Read first: `cells.py`.
"""
