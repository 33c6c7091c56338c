"""The definition of per-sample gradients: vmap over grad, the oracle of everything else.

In: a loss of one sample or of the batch.
Out: ``{name: [B, *shape]}`` and losses ``[B]``.
Read first: `dense.py`.
"""
