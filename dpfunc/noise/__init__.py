"""Noise mechanisms: from a bounded sum to a private release.

In: a `Summed`: values and their L2 sensitivity.
Out: tensors that may be published, and the next state.
Read first: `gaussian.py`.
"""
