"""`PrivacyEngine` in the training loops of other packages, which are imported when these are.

In: a trainer of Hugging Face or Lightning, and the settings of a private run.
Out: that trainer, whose every step is private.
Read first: `turns.py`.
"""
