"""Per-sample gradients: from a loss of one sample to the gradient of every sample.

In: a loss, parameters and a batch.
Out: gradients as factors, with their norms and sums; `explain` says which factors and why.
Read first: `factored.py`.
"""
