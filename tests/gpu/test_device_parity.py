"""Every neuron, kernel against the eager loop on the same GPU: spikes and states bit for bit, gradients."""

import pytest
import torch
from device_cases import DTYPES, EVERY, ODD, SMALL, VECTORS, compare
from dynamics_cases import SURROGATES, inputs
from test_taps import NAMES, tapped

from spikescope import functional, layer, neuron
from spikescope.dynamics.eager_taps import eager_taps


def drive(device, *shape, dtype=torch.float32):
    return (inputs(*shape) / 2).to(device, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("n", [VECTORS, ODD])
@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_neuron(cls, n, dtype, device):
    steps = cls.example.get("T", 4 if n == VECTORS else 17)
    compare(cls, drive(device, steps, 3, n, dtype=dtype), store_v_seq=n == ODD)


@pytest.mark.parametrize("cls", SURROGATES[:1] if SMALL else SURROGATES, ids=lambda cls: cls.__name__)
def test_every_surrogate(cls, device):
    compare(neuron.LIFNode, drive(device, 9, 3, ODD), learned=True, surrogate_function=cls(**cls.example))


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_learned_fields(cls, device):
    compare(cls, drive(device, cls.example.get("T", 5), 2, VECTORS), learned=True)


def test_taps(device):
    for x_seq in (drive(device, 5, 2, ODD), drive(device, 9, 2, VECTORS)):
        run, taps = tapped(neuron.LIFNode, x_seq, backend="triton")
        want = eager_taps(tuple(NAMES), x_seq, run.output, taps["h"])
        for name in NAMES:
            torch.testing.assert_close(taps[name], want[name], rtol=1e-5, atol=1e-3)


def test_a_divisor_on_the_cpu(device):
    """Eager CUDA multiplies by the reciprocal of a number that lies on the CPU."""
    compare(neuron.LIFNode, drive(device, 9, 2, ODD), tau=torch.tensor(2.37))


def test_subnormal_quotients(device):
    compare(neuron.LIFNode, 1e-37 * drive(device, 4, 2, ODD), tau=torch.nn.Parameter(torch.tensor(37.0)))


def test_a_network_in_channels_last(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(layer.Conv2d(2, 8, 3), layer.BatchNorm2d(8), neuron.LIFNode(), layer.Flatten())
    functional.set_step_mode(net, "m")
    net = net.to(device, memory_format=torch.channels_last)
    x_seq = torch.rand(12, 2, 6, 6, device=device).to(memory_format=torch.channels_last).unflatten(0, (4, 3))
    results = []
    for backend in ("torch", "triton" if SMALL else "auto"):
        functional.reset_net(net)
        functional.set_backend(net, backend)
        results.append(net(x_seq))
    assert torch.equal(*results)
