"""Training in less memory on the device: the same bits as a plain step, and a peak that is kept."""

import copy

import pytest
import torch
from device_cases import SMALL
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.functional.memory import saved_tensors
from spikescope.functional.memory.peak import most_allocated

C, SIZE = (4, 6) if SMALL else (64, 32)
T, N = (3, 2) if SMALL else (4, 16)


@pytest.fixture(autouse=True)
def alike_every_time(monkeypatch):
    """cuDNN chooses the same way for a convolution each time."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


def conv_net(device, depth=3, **options):
    torch.manual_seed(0)
    parts = []
    for channels in (3, *[C] * (depth - 1)):
        parts += [layer.Conv2d(channels, C, 3, padding=1), layer.BatchNorm2d(C), neuron.LIFNode()]
    net = nn.Sequential(*parts, layer.MaxPool2d(2), layer.Flatten(), layer.Linear(C * (SIZE // 2) ** 2, 10))
    functional.set_step_mode(net, "m")
    return net.to(device, **options)


def images(device):
    return torch.rand(T, N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(device)


def step(net, x, dtype=None):
    functional.reset_net(net)
    with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
        loss = net(x).float().square().mean()
    loss.backward()
    held = [loss.detach(), *(parameter.grad for parameter in net.parameters()), *net.buffers()]
    net.zero_grad(set_to_none=True)
    return held


@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_lean_gives_the_bits_of_a_plain_step(dtype, last, device, monkeypatch):
    found, keep = [], saved_tensors.Ledger._keep

    def noted(self, x):
        held = keep(self, x)
        found.append(type(held.what).__name__)
        return held

    monkeypatch.setattr(saved_tensors.Ledger, "_keep", noted)
    options = {"memory_format": torch.channels_last} if last else {}
    plain = conv_net(device, **options)
    lean, x = functional.lean(copy.deepcopy(plain)), images(device)
    for _ in range(2):  # the second call goes the ways that the first one tried
        for a, b in zip(step(plain, x, dtype), step(lean, x, dtype), strict=True):
            assert torch.equal(a, b)
    if not SMALL:  # tensors of the rehearsal are too small to be worth it
        assert {"Spikes", "Normed"} <= set(found)


@pytest.mark.real_gpu
def test_lean_takes_at_most_six_tenths_of_a_plain_step(device):
    plain = conv_net(device, depth=8)  # in a flat one most is what the gradients of one layer take
    lean, x = functional.lean(copy.deepcopy(plain)), images(device)
    peaks = []
    for net in (plain, lean):
        step(net, x)
        peaks.append(most_allocated(lambda net=net: step(net, x), device))
    assert peaks[1] <= 0.6 * peaks[0], [peak >> 20 for peak in peaks]


@pytest.mark.real_gpu
def test_a_budget_is_kept_with_the_same_bits(device):
    x = images(device)
    want = step(conv_net(device), x)
    floor = functional.fit_memory(conv_net(device), x, "70 GB", show=False).floor
    for times in (1.1, 1.5):
        net = conv_net(device)
        told = functional.fit_memory(net, x, int(times * floor), show=False)
        assert told.after <= times * floor
        assert all(torch.equal(a, b) for a, b in zip(want, step(net, x), strict=True))
        assert most_allocated(lambda net=net: step(net, x), device) <= 1.1 * told.after
