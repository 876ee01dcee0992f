"""Converted networks under the aliases of both interfaces."""

import importlib

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("aliases")


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
