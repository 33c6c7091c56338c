"""Batches: nested tensors that share axis 0, and tensors of shapes alone.

In: tuples, lists and dicts of tensors.
Out: their tensors, their size, slices of them.
Read first: `batch.py`.
"""
