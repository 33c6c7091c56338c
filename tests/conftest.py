"""Shared by all tests: Hypothesis profiles, and one thread so that timings and sums are steady."""

import os

import hypothesis
import torch

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=60)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")
torch.set_num_threads(1)
