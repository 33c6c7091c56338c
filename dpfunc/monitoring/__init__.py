"""Live numbers of a run, those that are not private named so.

In: an engine and a list of sinks.
Out: a line, a bar or a curve for each step.
Read first: `monitor.py`.
"""
