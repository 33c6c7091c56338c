"""Every device that is present: tests that touch tensors run over all of them."""

import torch

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
