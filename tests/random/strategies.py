"""Hypothesis strategies: what can be folded into a key."""

from hypothesis import strategies as st

NUMBER = st.one_of(st.integers(-3, 300), st.integers(-(2**70), 2**70))
DATA = st.lists(st.one_of(st.text(max_size=6), NUMBER), max_size=5)
