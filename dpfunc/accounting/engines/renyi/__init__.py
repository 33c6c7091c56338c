"""Renyi and concentrated DP: what is known by moments alone, and what filters add up.

In: an event.
Out: its Renyi divergences, and what follows from them about epsilon and delta.
Read first: `divergence.py`.
"""
