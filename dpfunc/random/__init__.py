"""Randomness: keys in, numbers out; the same ones on every device.

In: a `Key`, from the system or folded from another.
Out: bits, floats, whole numbers, rounded normals, subsets.
Read first: `keys.py`.
"""
