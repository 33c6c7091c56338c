"""Correlated noise of JAX-Privacy and of dpfunc: the same questions, and their answers.

In: nothing; the questions are in `questions.py`. Out: a table of answers side by side.
Read first: `questions.py`.
"""
