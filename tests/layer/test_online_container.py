"""OTTTSequential: values from the spikes, gradients from the trace."""

import pytest
import torch
from torch import nn

from spikescope import layer, neuron


def node():
    return neuron.OTTTLIFNode(v_threshold=0.1)


def pair():
    return [torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[1.5, 0.25]])]


def test_a_weighted_module_has_the_value_of_the_spikes_and_the_gradient_of_the_trace():
    linear = nn.Linear(2, 1)
    spike, trace = pair()
    out = layer.OTTTSequential(linear)([spike, trace])
    assert torch.equal(out, linear(spike))
    (3 * out).sum().backward()
    assert linear.weight.grad.tolist() == [[4.5, 0.75]]
    assert linear.bias.grad.tolist() == [3.0]
    torch.testing.assert_close(spike.grad, 3 * linear.weight.detach())


def test_a_weightless_module_is_applied_to_both():
    spike, trace = layer.OTTTSequential(nn.Unflatten(1, (1, 2)), nn.AvgPool1d(2))(pair())
    assert spike.flatten().tolist() == [0.5]
    assert trace.flatten().tolist() == [0.875]
    assert spike.requires_grad
    assert not trace.requires_grad


def test_dropout_drops_the_same_of_both():
    ones = [torch.ones(1, 50), torch.ones(1, 50)]
    spike, trace = layer.OTTTSequential(layer.Dropout(0.5))(ones)
    assert torch.equal(spike, trace)
    assert len(spike.unique()) == 2


@pytest.mark.parametrize("inner", [nn.Sequential, layer.OTTTSequential])
def test_containers_nest(inner):
    torch.manual_seed(0)
    a, b, c = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)
    flat = layer.OTTTSequential(a, node(), b, node(), c)
    nested = layer.OTTTSequential(
        inner(a, node()),
        inner(nn.Identity(), b, inner(node())),
        c,
    )
    results = []
    for net in (flat, nested):
        net.zero_grad()
        outs = [net(x) for x in 3 * torch.ones(3, 2, 2)]
        torch.stack(outs).sum().backward()
        results.append([torch.stack(outs), *(w.grad.clone() for w in (a.weight, b.weight, c.weight))])
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)
        assert y.abs().sum() > 0


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (neuron.LIFNode(), "step the neuron LIFNode twice"),
        (layer.BatchNorm1d(2), "mix spikes and traces"),
        (nn.Dropout(0.5), "drop other elements"),
    ],
)
def test_what_cannot_be_run_on_both_is_refused(module, words):
    with pytest.raises(ValueError, match=words):
        layer.OTTTSequential(module)(pair())
