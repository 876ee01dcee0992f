"""Converted networks under the aliases of both interfaces."""

import importlib

import pytest
import torch
from torch import nn

from spikescope.errors import ShapeError

pytestmark = pytest.mark.usefixtures("aliases")


@pytest.mark.parametrize("momentum", [None, 0.75])
@pytest.mark.parametrize("given", [(2,), (2, 1), ((2, 3), 2, 1)])
def test_spikes_of_the_input_that_leads_a_window(given, momentum):
    from spikingjelly.clock_driven.ann2snn import modules

    torch.manual_seed(0)
    pool, plain, x_seq = modules.MaxPool2d(*given, momentum=momentum), nn.MaxPool2d(*given), torch.rand(6, 2, 3, 5, 6)
    x_seq = (x_seq < 0.3).float()
    x_seq[:, :, :, 0] = 0  # windows of which nothing leads
    p, told = torch.zeros(2, 3, 5, 6), []
    for x in x_seq:
        p = p + x if momentum is None else momentum * p + (1 - momentum) * x
        largest, place = nn.functional.max_pool2d(p, *given, return_indices=True)
        leads = torch.zeros_like(p)
        for n in range(2):
            for c in range(3):
                for index, height in zip(place[n, c].flatten(), largest[n, c].flatten(), strict=True):
                    leads[n, c].view(-1)[index] += height > 0
        told.append(pool(x))
        assert torch.equal(told[-1], plain(x * (leads > 0)))
    assert not torch.equal(torch.stack(told), plain(x_seq.flatten(0, 1)).view_as(torch.stack(told)))
    pool.reset()
    assert torch.equal(pool(x_seq[0]), told[0])
    with pytest.raises(ValueError, match="gives spikes alone"):
        modules.MaxPool2d(2, return_indices=True)
    pool = modules.MaxPool2d(2)
    with pytest.raises(ShapeError, match=r"MaxPool2d takes a step \[N, C, H, W\], but got"):
        pool(torch.zeros(4, 4))
    assert pool.v == 0.0  # nothing was taken up
    mean = modules.AccuLayer(momentum)
    *_, last = (mean(x) for x in x_seq)
    torch.testing.assert_close(last, x_seq.mean(0) if momentum is None else p)
    with pytest.raises(ValueError, match="AccuLayer: momentum must be"):
        modules.AccuLayer(1.5)


@pytest.mark.parametrize("package", ["clock_driven", "activation_based"])
def test_neurons_of_a_converted_network_are_found_by_the_class_of_the_interface(package):
    ann2snn, neuron = (importlib.import_module(f"spikingjelly.{package}.{room}") for room in ("ann2snn", "neuron"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU()).eval()
    data = [(torch.rand(5, 4), torch.zeros(5))]
    for p in net.parameters():
        p.data.abs_()  # no neuron is silent
    by_place = ("max",) if package == "clock_driven" else (None, "max")
    converted = ann2snn.Converter(data, *by_place)(net)
    for cls in (neuron.IFNode, neuron.BaseNode):
        assert sum(isinstance(module, cls) for module in converted.modules()) == 2
    rate = torch.stack([converted(data[0][0]) for _ in range(200)]).mean(0)
    torch.testing.assert_close(rate, net(data[0][0]), rtol=0, atol=0.02)
