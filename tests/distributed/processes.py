"""Several processes on this machine, with gloo on loopback: `run` gives what each of them returns.

They are forked off a server that has taken a step before, so that they begin at once.
"""

import multiprocessing
import os
import pickle
import tempfile
import traceback
from datetime import timedelta

import torch
from torch import distributed as dist

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.distributed.warm"])
PATIENCE = 180  # seconds: others may use the machine


def said_by(function, cases):
    """For a run: ``function`` of each case, or ``"TypeError: its words"``; an error ends no run."""
    said = []
    for case in cases:
        try:
            said.append(function(case))
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def run(function, world, *args, patience=PATIENCE):
    """``function(*args)`` in ``world`` processes of one group: what it returned, by rank.

    ``patience``: seconds until a process counts as one that hangs. An error comes as
    ``"TypeError: its words"`` in the place of a result.
    """
    with tempfile.TemporaryDirectory() as folder:
        ends, processes = [], []
        for rank in range(world):
            ours, theirs = _SERVER.Pipe(duplex=False)
            meeting = (rank, world, f"{folder}/meeting", theirs, patience)
            process = _SERVER.Process(target=_main, args=(meeting, function, args), daemon=True)
            process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)
        results = [_received(end, patience) for end in ends]
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode is not None, "a process hangs"
    return results


def _received(end, patience):
    assert end.poll(patience), "a process hangs"
    try:
        return pickle.loads(end.recv_bytes())
    except (EOFError, ConnectionResetError):
        return "gone"


def _main(meeting, function, args):
    rank, world, file, end, seconds = meeting
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(file, world)
    patience = timedelta(seconds=seconds)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=patience)
    dist.barrier()  # one that leaves at once would else be gone before all are connected
    try:
        result = function(*args)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
        if os.environ.get("SHOW"):
            traceback.print_exc()
    end.send_bytes(pickle.dumps(result))  # tensors too, not as handles to shared memory
    end.close()
    dist.destroy_process_group()
