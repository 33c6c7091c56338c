"""The engine: from a loss of one sample to the gradient of every sample, its norms and its sums."""
