"""Engines: what adds up the losses of a composition, with proven bounds.

In: a `Composition` and a delta or an epsilon.
Out: an interval that holds the answer.
Read first: `choice.py`.
"""
