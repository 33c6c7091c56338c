"""Canaries: records of one's own that show what a run releases of one record.

In: a loss and a number of canaries; later what was released along each, and who was in.
Out: a loss that takes canaries too, scores, an audit of the run.
Read first: `gradient_canaries.py`.
"""
