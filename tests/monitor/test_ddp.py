"""Monitors in two processes that train one network together."""

import socket

import torch
from monitor_cases import sequence, spiking_net
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from spikescope import functional, neuron
from spikescope.monitor import GradOutputMonitor, OutputMonitor


def train(rank, port, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    net = spiking_net()
    wrapped = DistributedDataParallel(net)
    x = sequence(4, 3) * (1 + rank)
    with OutputMonitor(wrapped, neuron.Neuron) as monitor, GradOutputMonitor(wrapped, neuron.Neuron) as gradients:
        for _ in range(3):
            functional.reset_net(net)
            wrapped(x).sum().backward()
    functional.reset_net(net)
    with torch.no_grad():
        own = torch.equal(monitor["3"][-1], net(x))  # of this rank, not of the other
    results.put((rank, monitor.monitored_layers, len(monitor.records), len(gradients.records), own))
    distributed.destroy_process_group()


def test_every_rank_has_its_own_records():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    multiprocessing.spawn(train, (port, results), nprocs=2)
    found = sorted(results.get() for _ in range(2))
    assert found == [(rank, ["1", "3"], 6, 6, True) for rank in range(2)]
