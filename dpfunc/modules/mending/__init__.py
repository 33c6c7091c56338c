"""Mending: layers that mix samples are replaced by layers that do not.

In: a module.
Out: a new module, and a report of what was changed.
Read first: `fixing.py`.
"""
