"""Questions: what a user asks the accountant.

In: events and targets.
Out: proven numbers, curves, calibrated settings and filters.
Read first: `answers.py`.
"""
