"""Domination: which pair stands for which event, under which neighbouring relation.

In: an event and a relation.
Out: a `Composition` of dominating pairs for each order of the data sets, ready for an engine.
Read first: `composition.py`.
"""
