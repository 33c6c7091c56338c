"""Shared by all tests: Hypothesis profiles, and one thread so that timings and sums are steady."""

import os

import hypothesis

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=60)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")
os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy or torch are loaded, which not all tests need
