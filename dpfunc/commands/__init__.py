"""The command line; each command is a file with ``DESCRIPTION``, ``add_options`` and ``run``.

In: words of a command line.
Out: printed answers, JSON and pictures.
Read first: `epsilon.py`.
"""
