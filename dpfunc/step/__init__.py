"""A private step: the stages joined.

In: parameters, a batch and a state.
Out: private gradients, the next state, and what is not private apart.
Read first: `private_grad.py`.
"""
