"""The norms of all processes, for clip rules that learn from them: in the order of the shards."""

import torch

from dpfunc.distributed.processes import Processes
from dpfunc.types import Tensors


def gathered_norms(norms: list[Tensors], most: int, processes: Processes) -> list[Tensors]:
    """The norms of every shard, shard after shard: one collective, whatever their numbers.

    ``norms``: of the shards r, r + W, ... of process r of W. ``most``: how many samples the largest
    shard of any process has. What comes does not depend on W.
    """
    names = sorted(norms[0])
    like = norms[0][names[0]]
    table = like.new_zeros((len(norms), 1 + max(1, most), len(names)))  # a row for the sizes
    for row, shard in zip(table, norms, strict=True):
        stacked = torch.stack([shard[name] for name in names], 1)  # [B, names]
        row[0] = len(stacked)
        row[1 : 1 + len(stacked)] = stacked
    everyone = processes.gathered(table)  # [W, V / W, ...]
    in_order = everyone.transpose(0, 1).flatten(0, 1)  # shard v is row v // W of process v % W
    shards = []
    for row in in_order:
        size = int(row[0, 0])
        shards.append({name: row[1 : 1 + size, i] for i, name in enumerate(names)})
    return shards
