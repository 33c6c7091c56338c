"""Events: descriptions of what was released, as frozen data that says nothing about privacy.

In: numbers of a run (noise, rates, counts), JSON, or an event of another library.
Out: `Event`s, which compare, hash, add up and print.
Read first: `algebra.py`, then `mechanisms.py`.
"""
