"""For the server that test processes are forked off: what is slow at first is done there."""

import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp

from tests.distributed.runs import train

torch.set_num_threads(1)  # threads do not survive a fork
train(1)
