"""Factors: per-sample gradients of one parameter that are never formed.

In: activations and output gradients, as rules keep them.
Out: norms ``[B]``, weighted sums, dense gradients where asked.
Read first: `forms.py`.
"""
