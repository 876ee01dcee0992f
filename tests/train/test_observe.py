"""The activity of layers and the view of one sample, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import functional, layer
from spikescope.monitor import by_type, record
from spikescope.neuron import IFNode, ILIFNode, LIFNode, TernaryIFNode
from spikescope.train import gradients, observe, view_sample


def network(step_mode):
    return nn.Sequential(IFNode(step_mode=step_mode), nn.Identity(), LIFNode(tau=2.0, step_mode=step_mode))


INPUT = torch.tensor([[[1.0, 0.5, 0.0], [0.25, 0.5, 0.0]]]).expand(4, 2, 3)
# IF at threshold 1: 1.0 fires 4 times, 0.5 twice, 0.25 once: 4 + 2 + 0 and 1 + 2 + 0 spikes of 24 neuron steps.
# LIF with tau 2 on those spikes: a spike every step gives H = .5, .75, .875, .9375, and never 1: all silent.


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_rate_and_silent_share(step_mode):
    net = network(step_mode)
    with observe(net) as activity:
        for part in (INPUT[:, :1], INPUT[:, 1:]):  # one sample at a time
            functional.reset_net(net)
            if step_mode == "m":
                net(part)
            else:
                for x in part:
                    net(x)
    first, second = activity.layers()
    assert (first.name, first.kind, first.neurons) == ("0", "IFNode", 3)
    assert first.rate == 9 / 24
    assert first.silent == 1 / 3
    assert (second.name, second.rate, second.silent) == ("2", 0.0, 1.0)


def test_the_hooks_go_also_by_an_error():
    net = network("m")
    hooks = [len(module._forward_hooks) for module in net.modules()]
    with pytest.raises(ValueError, match="step_mode='m'"), observe(net) as activity:
        net(torch.tensor(1.0))
    before = activity.layers()
    functional.reset_net(net)
    net(INPUT)
    assert activity.layers() == before == ()
    assert [len(module._forward_hooks) for module in net.modules()] == hooks


def test_a_layer_that_did_not_run_is_left_out():
    net = network("m")
    with observe(net) as activity:
        net[0](INPUT)
    assert [layer.name for layer in activity.layers()] == ["0"]


def test_counts_keep_no_graph():
    net = network("m")
    x = INPUT.clone().requires_grad_()
    with observe(net) as activity:
        net(x)
    (first, second) = activity.layers()
    assert isinstance(first.rate, float)
    assert isinstance(second.silent, float)


def test_a_network_without_neurons():
    net = nn.Sequential(nn.Linear(2, 2))
    with observe(net) as activity:
        net(torch.rand(3, 2))
    assert activity.layers() == ()


def test_the_view_of_one_sample(small_network):
    net = small_network.train()
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    view = view_sample(net, image, label=3, steps=5, trained_steps=2)
    assert net.training
    assert not net.neuron1.store_v_seq
    assert view.image.shape == (8, 8)
    assert view.readout.shape == (5, 10)
    assert [layer.name for layer in view.layers] == ["neuron1", "neuron2", "neuron3"]
    assert view.layers[0].spikes.shape == view.layers[0].potential.shape == (5, 3 * 64)
    assert view.layers[0].threshold == net.neuron1.v_threshold

    net.eval()
    x = image.expand(5, 1, 1, 8, 8)
    spikes = net.neuron1(net.norm1(net.conv1(x)))
    assert np.array_equal(view.layers[0].spikes, spikes.flatten(1).detach().numpy())
    functional.reset_net(net)
    assert np.allclose(view.readout, net(x)[:, 0].detach().numpy(), atol=1e-6)
    hard_reset = view.layers[0].potential[view.layers[0].spikes != 0]
    assert (hard_reset == 0).all()


def test_the_view_of_neurons_that_give_other_than_spikes():
    net = nn.Sequential(TernaryIFNode(step_mode="m"), ILIFNode(step_mode="m"))
    view = view_sample(net, torch.tensor([[[-1.5, 0.0, 1.5]]]), label=0, steps=2, trained_steps=2)
    assert view.layers[0].spikes.tolist() == [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    assert view.layers[1].spikes.shape == (2, 3)


def test_gradients_by_layer_and_step():
    net = nn.Sequential(
        layer.Linear(2, 1, bias=False, step_mode="m"), nn.Sequential(nn.Identity(), IFNode(step_mode="m"))
    )
    with record(net, "gradient norm", by_type(layer.Linear, IFNode), "grad_output") as recording:
        y = net(torch.zeros(3, 1, 2))
        (y * torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)).sum().backward()
    flow = gradients(recording)
    assert flow.layers == ("0", "1.1")
    assert flow.norms.shape == (2, 3)
    assert flow.norms[1].tolist() == [1.0, 2.0, 4.0]
    assert flow.depth[1] == np.sqrt(21.0)


def test_the_view_knows_no_threshold_where_neurons_differ(small_network):
    small_network.neuron3.v_threshold = torch.linspace(0.4, 0.9, 7)
    view = view_sample(small_network, torch.rand(1, 8, 8), label=3, steps=2, trained_steps=2)
    assert [layer.threshold for layer in view.layers] == [0.5, 0.5, None]
