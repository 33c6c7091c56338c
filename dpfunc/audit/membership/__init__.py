"""Membership inference: who was in the training data of a model, as far as attacks can tell.

In: models of the same kind, trained with and without each record; the model that is attacked.
Out: a score for each record, and the rates at which guesses by it are right and wrong.
Read first: `attacks.py`.
"""
