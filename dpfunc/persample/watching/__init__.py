"""Watching a loss as it runs: who uses which parameter, and taps on the outputs.

In: operations as torch calls them, parameters known by identity.
Out: a tap on each use, from which backward collects factors.
Read first: `capture.py`.
"""
