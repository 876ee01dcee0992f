"""Where sequences begin: what a monitor looks through to hear of it."""

import pytest
import torch
from torch import nn

from spikescope.layer import Linear
from spikescope.monitor import OutputMonitor, dry_run, flight_recorder, health, record
from spikescope.monitor.choose.modules import named
from spikescope.monitor.probe import start
from spikescope.neuron import IFNode


def of(layers):
    return nn.Sequential(
        *(held for _ in range(layers) for held in (Linear(3, 3, step_mode="m"), IFNode(step_mode="m")))
    )


PLUGS = {
    "record": lambda net, folder: record(net, "moments", Linear, "output").close,
    "stream": lambda net, folder: record(net, "output", Linear, to=folder).close,
    "flight recorder": lambda net, folder: flight_recorder(net, to=folder).close,
    "health": lambda net, folder: health(net).close,
    "outputs": lambda net, folder: OutputMonitor(net, Linear).close,
    "dry run": lambda net, folder: dry_run(net, torch.ones(2, 1, 3), Linear, "output") and (lambda: None),
}


@pytest.mark.parametrize("kind", PLUGS)
def test_a_network_is_walked_as_often_whatever_its_depth(kind, tmp_path, monkeypatch):
    walks = []
    monkeypatch.setattr(start, "named", lambda net: walks.append(net) or named(net))
    told = []
    for layers in (2, 12):
        walks.clear()
        net = of(layers)
        close = PLUGS[kind](net, tmp_path / str(layers))
        told.append(len(walks))
        net(torch.ones(2, 1, 3))
        close()
    assert 0 < told[1] == told[0]
