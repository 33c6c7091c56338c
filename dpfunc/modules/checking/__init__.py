"""Checking: what stands between a module and private training, seen by looking or by running it.

In: a module, and a batch where there is one.
Out: findings by layer: what, why, how to mend it.
Read first: `check.py`.
"""
