"""A batch normalisation fused with its neuron against the two apart, and the short way of a call, on one device."""

import copy

import pytest
import torch
from device_cases import EVERY, SMALL
from dynamics_cases import inputs
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.dynamics.norm import pair as normed
from spikescope.dynamics.triton.prepared import PreparedOnGpu

C = 4 if SMALL else 24
SHAPE = (5, 2, C, 3, 4) if SMALL else (9, 6, C, 14, 14)


def pair(cls, device):
    """The two as one run, and apart in the eager loop."""
    net = nn.Sequential(layer.BatchNorm2d(C), cls(**cls.example, backend="triton")).to(device)
    functional.set_step_mode(net, "m")
    apart = copy.deepcopy(net)
    apart[1].backend = "torch"
    return functional.fuse_bn_neurons(net, training=True), apart


def gradients(net, x):
    functional.reset_net(net)
    leaf = x.detach().requires_grad_()
    y = net(leaf)
    found = torch.autograd.grad(
        (y * inputs(*y.shape).to(y)).double().sum(), [leaf, *net.parameters()], allow_unused=True
    )
    return [y.detach(), *(grad for grad in found if grad is not None)]


@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32] if SMALL else [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", [neuron.LIFNode] if SMALL else EVERY, ids=lambda cls: cls.__name__)
def test_the_pair_as_one_run(cls, dtype, last, device, monkeypatch):
    if not cls(**cls.example)._plainly_driven() or issubclass(cls, neuron.NonSpikingBaseNode):
        pytest.skip("its input or its output goes through more than a kernel")
    x = inputs(*SHAPE).to(device, dtype) + 1.3
    if last:
        x = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, SHAPE[:2])
    seen, settle = [], normed._settle
    monkeypatch.setattr(normed, "_settle", lambda *args: seen.append(settle(*args)) or seen[-1])
    net, apart = pair(cls, device)
    got = gradients(net, x)
    assert len(seen) == 1
    want = gradients(apart, x.float())
    near = 4 * torch.finfo(dtype).eps * want[0].abs().clamp_min(1)  # an output may be no spike
    off = ((got[0].float() - want[0]).abs() > near).double().mean().item()
    assert off <= 1e-4, f"{off:.1e} of the outputs differ"  # a potential right at the threshold
    for a, b in zip(got[1:], want[1:], strict=True):
        assert (a.double() - b.double()).norm() <= max(1e-2, 4 * torch.finfo(dtype).eps) * b.double().norm()
    twin = apart[1]
    twin.reset()
    twin.x_scale, twin.x_shift = (held.view(C, 1, 1) for held in seen[0][0][:2])
    with torch.no_grad():
        assert torch.equal(got[0], twin(x))
    for a, b in zip(net[0].buffers(), apart[0].buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_short_way_is_taken(device):
    node, twin = neuron.LIFNode(step_mode="m", backend="triton"), neuron.LIFNode(step_mode="m", backend="torch")
    x = inputs(4, 2, 32).to(device)
    for call in range(4):
        node.reset(), twin.reset()
        assert torch.equal(node(x), twin(x))
        assert call < 1 or [type(made) for made in node._short.runs.values()] == [PreparedOnGpu]


@pytest.mark.real_gpu
@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_neuron_is_fused(cls, device):
    node = cls(**cls.example, step_mode="m").to(device)
    assert node.implementation(torch.rand(cls.example.get("T", 4), 2, 32, device=device)).backend == "triton"
