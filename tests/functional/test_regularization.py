"""Penalties on rates and on synaptic operations: by hand, against the monitor, and with their gradients."""

import math

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.errors import ShapeError
from spikescope.functional import rate_regularization, synaptic_operations, synops_regularization
from spikescope.monitor.reduce import SynOps, fan_out

# two steps, two samples, three neurons; rates of the neurons 0.75, 0.25, 0; of the layer 1/3
SPIKES = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])


@pytest.mark.parametrize(
    ("low", "high", "rate_of", "want"),
    [
        (0.1, 0.5, "neuron", (0.25**2 + 0.1**2) / 3),
        (0.0, 0.8, "neuron", 0),
        (0.0, 1.0, "neuron", 0),
        (0.1, 0.3, "layer", (1 / 3 - 0.3) ** 2),
        (0.4, 0.6, "layer", (0.4 - 1 / 3) ** 2),
        (0.1, 0.6, "sample", (0.4**2 + 2 * 0.1**2 + 0.1**2) / 6),  # 1, 0, 0; 0.5, 0.5, 0
    ],
)
def test_rates_by_hand(low, high, rate_of, want):
    assert math.isclose(rate_regularization(SPIKES, low, high, rate_of), want, rel_tol=1e-6, abs_tol=1e-12)


def test_operations_by_hand():
    reach = torch.tensor([10.0, 2.0, 5.0])
    assert synaptic_operations(SPIKES, reach).tolist() == [20.0, 12.0]
    assert synaptic_operations(SPIKES, 3).tolist() == [6.0, 6.0]
    assert synaptic_operations(SPIKES[..., 0], 3).tolist() == [6.0, 3.0]
    assert synaptic_operations(SPIKES[:0], 3).tolist() == [0.0, 0.0]
    both = [SPIKES, SPIKES[..., :1]], [reach, 4]  # (32 + 4 * 3) / 2 = 22
    assert math.isclose(synops_regularization(*both, target=16), (22 / 16 - 1) ** 2, rel_tol=1e-6)
    assert math.isclose(synops_regularization(*both, target=25), (22 / 25 - 1) ** 2, rel_tol=1e-6)
    assert math.isclose(synops_regularization(*both, 16, only_above=True), (22 / 16 - 1) ** 2, rel_tol=1e-6)
    assert synops_regularization(*both, target=25, only_above=True) == 0
    assert synops_regularization(SPIKES, reach, 16) == 0


def test_the_operations_are_those_of_the_monitor_with_the_graph_of_a_recording():
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 3, 3, padding=1), neuron.LIFNode(), layer.Conv2d(3, 4, 3, stride=2), neuron.LIFNode(),
        layer.Flatten(), layer.Linear(4 * 3 * 3, 5),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    reaches = [fan_out(net[2], (3, 7, 7)), fan_out(net[5], (36,)).view(4, 3, 3)]
    x_seq = 3 * torch.rand(6, 2, 1, 7, 7)
    with monitor.record(net, {"work": SynOps(reaches[0])}, where="1") as recording:
        with monitor.OutputMonitor(net, neuron.LIFNode, keep_graph=True) as spikes:
            net(x_seq)
        loss = synops_regularization(spikes.records, reaches, target=500.0)
    operations = [synaptic_operations(held, reach) for held, reach in zip(spikes.records, reaches, strict=True)]
    assert operations[0].detach().mean().item() == recording["1"]["work"].per_sample
    assert operations[0].min() > 0
    torch.testing.assert_close(loss, ((operations[0] + operations[1]).mean() / 500 - 1) ** 2)
    loss.backward()
    assert net[0].weight.grad.abs().max() > 0


def test_a_descent_brings_the_rates_into_their_bounds():
    torch.manual_seed(0)
    linear, node = nn.Linear(20, 30), neuron.LIFNode(step_mode="m")
    x_seq = (torch.rand(12, 16, 20) < 0.3).float()
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.02)

    def penalty():
        node.reset()
        spikes = node(linear(x_seq))
        return rate_regularization(spikes, 0.05, 0.15), spikes.detach().mean((0, 1))

    before, rates = penalty()
    assert (rates == 0).any()
    for _ in range(60):
        optimizer.zero_grad()
        loss, rates = penalty()
        loss.backward()
        optimizer.step()
    assert loss < before / 20
    assert rates.min() > 0.02
    assert rates.max() < 0.2


LOSSES = [
    lambda x: rate_regularization(x, 0.47, 0.53),
    lambda x: rate_regularization(x, 0.47, 0.53, "sample"),
    lambda x: rate_regularization(x, 0.61, 0.87, "layer"),
    lambda x: synops_regularization(x, torch.arange(3.0), 2.2),
    lambda x: synops_regularization([x, x[..., 0]], [3, 1], 2.2, only_above=True),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_and_half_precision(loss):
    torch.manual_seed(0)
    x = torch.rand(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, x)
    assert torch.autograd.gradgradcheck(loss, x)
    assert torch.autograd.grad(loss(x), x)[0].abs().max() > 0
    half = x.detach().half().requires_grad_()
    assert loss(half).dtype == torch.float32
    assert loss(half) == loss(half.float())
    turned = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    torch.testing.assert_close(loss(turned), loss(x))
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(loss, backend="eager", fullgraph=True)(x), loss(x))
    torch.testing.assert_close(torch.func.vmap(loss)(x.unsqueeze(0))[0], loss(x))


def test_half_precision_counts_far():
    ones = torch.ones(3001, 1, 40, dtype=torch.float16)
    assert synaptic_operations(ones, 7).item() == 3001 * 40 * 7
    assert rate_regularization(ones, 0.0, 0.5) == 0.25


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rate_regularization([1.0]), TypeError, r"spike_seq must be a torch\.Tensor"),
        (lambda: rate_regularization(torch.ones(3)), ShapeError, r"spikes \[T, N, \*\] of at least one step"),
        (lambda: rate_regularization(torch.ones(3, 0, 2)), ShapeError, r"but got \[T=3, N=0, 2\]"),
        (lambda: rate_regularization(SPIKES, 0.5, 0.4), ValueError, "low must not be above high, but got 0.5 and 0.4"),
        (lambda: rate_regularization(SPIKES, rate_of="net"), ValueError, "rate_of must be one of 'neuron', 'sample'"),
        (lambda: synaptic_operations([1.0], 3), TypeError, r"spike_seq must be a torch\.Tensor"),
        (lambda: synaptic_operations(torch.ones(3), 3), ShapeError, r"takes spikes \[T, N, \*\], but got \[T=3\]"),
        (lambda: synaptic_operations(SPIKES, torch.ones(2)), ShapeError, r"\[2\], which does not broadcast to the neu"),
        (lambda: synaptic_operations(SPIKES, torch.ones(1, 3)), ShapeError, r"\[1, 3\], which does not broadcast"),
        (lambda: synops_regularization([SPIKES], [3, 4], 5), ValueError, "of 1 layers and 2 fan_outs"),
        (lambda: synops_regularization([], [], 5), ValueError, "of 0 layers and 0 fan_outs"),
        (lambda: synops_regularization(SPIKES, 3, 0.0), ValueError, "target must be above 0, but got"),
        (lambda: synops_regularization(SPIKES, 3, "5"), ValueError, "target must be above 0, but got"),
        (lambda: synops_regularization(3.0, 3, 5), TypeError, "spike_seqs must be the spikes of a layer"),
        (lambda: synops_regularization(SPIKES, -3, 5), ValueError, "fan_out must be at least 0, but got -3"),
        (lambda: synaptic_operations(SPIKES, math.nan), ValueError, "fan_out must be at least 0, but got nan"),
        (lambda: synaptic_operations(SPIKES, 1j), ValueError, "fan_out must be at least 0"),
        (lambda: rate_regularization(SPIKES, low="0.1"), ValueError, "low must be a number, but got '0.1'"),
        (lambda: synops_regularization([SPIKES, SPIKES[:, :1]], [1, 1], 5), ShapeError, "but got batches of 2, 1"),
        (lambda: synops_regularization(SPIKES[:, :0], 1, 5), ShapeError, "at least one sample, but got batches of 0"),
    ],
)
def test_refused_in_words(call, error, text):
    with pytest.raises(error, match=text):
        call()
