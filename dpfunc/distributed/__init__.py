"""One private step on many processes: the same release, bit for bit, on any number of them.

In: a `PrivateGrad`, the processes of a group, and for each of them the batches of its shards.
Out: on every process the private gradient that one process would have released.
Read first: `data_parallel.py`.
"""

from dpfunc.distributed.agreement import agree as agree
from dpfunc.distributed.data_parallel import DataParallel as DataParallel
from dpfunc.distributed.fans import fan_in as fan_in
from dpfunc.distributed.fans import fan_out as fan_out
from dpfunc.distributed.sharded import shard as shard
from dpfunc.distributed.sharing import shared_key as shared_key
from dpfunc.distributed.tensor_parallel import TensorParallel as TensorParallel
from dpfunc.distributed.tensor_parallel import cut as cut
