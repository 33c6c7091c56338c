"""The lattice engine: losses on a grid, added by a tilted FFT, for every pair.

In: a composition of any pairs.
Out: intervals of epsilon and of delta, refined until they are as narrow as was asked.
Read first: `refining.py`.
"""
