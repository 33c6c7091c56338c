"""Kernels: who computes a release, all to the last bit alike, by one format of the random bits.

In: sums in a row of items, the keys of a release, the noise's deviation in units of the grid.
Out: the same memory, released.
Read first: `format.py`.

Many files: what numba compiles, what Triton compiles and what torch runs are apart, since each is
read by another compiler.
"""
