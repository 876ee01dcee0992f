"""Run a function in two processes of one gloo group, as the tests of distributed training do."""

import os

import torch
from torch import distributed, multiprocessing

LOADED = ["torch.distributed", "torch.nn.parallel", "torch._dynamo", "spikescope.train", "pytest"]
"""What takes long to import; DistributedDataParallel and optimizers ask for the third when they are made."""


def in_two_ranks(function, meeting):
    """What ``function(rank)`` returns in each of two processes that meet at the file ``meeting``, by rank."""
    context = multiprocessing.get_context("forkserver")  # a process that has imported all, and forks: made once
    context.set_forkserver_preload(LOADED)
    results, end = context.SimpleQueue(), context.Barrier(2)
    given = function, str(meeting), results, end
    multiprocessing.start_processes(_one_rank, given, nprocs=2, start_method="forkserver")
    return [result for _, result in sorted((results.get() for _ in range(2)), key=lambda row: row[0])]


def error_of(call):
    """The words of a RuntimeError, which travel between processes."""
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "no error"


def _one_rank(rank, function, meeting, results, end):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{meeting}", world_size=2, rank=rank)
    results.put((rank, function(rank)))
    end.wait(60)
    # Not the usual end: DistributedDataParallel keeps the process group beyond destroy_process_group, and a thread of
    # the group that lets go of its last work while the interpreter shuts down takes the GIL and aborts the process.
    os._exit(0)
