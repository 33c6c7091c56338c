"""The engine around an ordinary loop: what makes it private, and what it is refused for.

In: a module, its optimizer and the loop that somebody already has.
Out: private gradients in ``.grad``, and the budget at any moment.
Read first: `privacy_engine.py`.

Many files: a loop touches the engine in many places, and each is an idea of its own.
"""
