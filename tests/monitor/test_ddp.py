"""Monitors in two processes that train one network together."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monitor_cases import sequence, spiking_net
from ranks import in_two_ranks
from spikescope import functional, layer, neuron
from spikescope.monitor import GradOutputMonitor, OutputMonitor, record


def train(rank):
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
    return (monitor.monitored_layers, len(monitor.records), len(gradients.records), own), with_buffers(rank)


def with_buffers(rank):
    """Spikes that a summary and the records counted on this rank, while DDP broadcasts the buffers of rank 0."""
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(1, 3, 3), layer.BatchNorm2d(3), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    wrapped = DistributedDataParallel(net, broadcast_buffers=True)
    buffers = list(dict(net.named_buffers()))
    x = torch.rand(4, 2, 1, 5, 5) if rank == 0 else torch.rand(4, 2, 1, 5, 5).round()
    with record(wrapped, "count") as recording, OutputMonitor(wrapped, neuron.LIFNode) as outputs:
        for _ in range(3):
            functional.reset_net(net)
            wrapped(x).sum().backward()
    assert list(dict(net.named_buffers())) == buffers
    return float(recording["2"].sum()), sum(float(held.sum()) for held in outputs.records)


def test_every_rank_has_its_own_records(tmp_path):
    (seen, summaries), (seen_by_second, summaries_of_second) = in_two_ranks(train, tmp_path / "meeting")
    assert seen == seen_by_second == (["module.1", "module.3"], 6, 6, True)
    (first, first_records), (second, second_records) = summaries, summaries_of_second
    assert (first, second) == (first_records, second_records)
    assert 0 < first != second > 0, "what the ranks saw differs, and so would a broadcast"
