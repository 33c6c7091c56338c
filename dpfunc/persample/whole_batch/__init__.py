"""Losses that see the whole batch: where the samples are in each tensor, and that they do not mix.

In: a loss marked by `dpfunc.batched`, and its operations.
Out: factors, as for a loss of one sample; or a refusal with its reason.
Read first: `rows.py`.
"""
