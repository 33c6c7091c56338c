"""Pairs: the two distributions that dominate a release, seen through their privacy loss.

In: noise, shifts and probabilities of one release.
Out: a `Pair` that answers about the masses and the moments of its losses.
Read first: `privacy_loss.py`.
"""
