"""The work of a converted network: spikes of the height `scale` are additions, as spikes of 1 are."""

import pytest
import torch
from torch import nn

import spikescope
from spikescope import ann2snn, functional, layer, monitor, neuron
from spikescope.monitor.spike_heights import of_height_one

T, N = 6, 5


def converted():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)
    )
    x = torch.rand(N, 2, 8, 8)
    snn = ann2snn.Converter(x)(ann)
    functional.set_step_mode(snn, "m")
    return snn, x.expand(T, *x.shape)


def inputs(snn, x):
    """What comes into the layers with weights behind the first, in spikes."""
    with monitor.InputMonitor(snn, nn.Conv2d) as convolutions, monitor.InputMonitor(snn, nn.Linear) as linear:
        snn(x)
    functional.reset_net(snn)
    scales = [held.scale for held in snn.modules() if isinstance(held, ann2snn.ScaledNeuron)]
    return [held / scale for held, scale in zip((convolutions["3"][0], linear["6"][0]), scales, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_spike_of_a_scaled_neuron_is_an_addition_for_each_synapse(dtype):
    snn, x = converted()
    snn, x = snn.to(dtype), x[0].to(dtype).expand(x.shape)
    into, last = inputs(snn, x)
    work = {row.name: row for row in monitor.operations(snn, x)}
    assert work["0"].macs > 0  # of the image
    reach = monitor.reduce.fan_out(snn.get_submodule("3"), into.shape[2:])
    for name, spikes, wanted in (("3", into, (into.double() * reach).sum()), ("6", last, 3 * last.double().sum())):
        assert work[name].macs == 0
        assert work[name].acs == pytest.approx(wanted.item() / N, rel=1e-5)
        assert work[name].events == pytest.approx(spikes.double().sum().item() / N, rel=1e-5)


def test_a_recording_of_a_converted_network_is_priced_alike(tmp_path):
    snn, x = converted()
    x = x.contiguous()
    wanted = monitor.energy(snn, x)
    signals = {"input": monitor.by_type(nn.Conv2d, nn.Linear)}
    with monitor.record(snn, signals, to=tmp_path / "run.spk"), torch.no_grad():
        snn(x)
    told = {
        row.work.name: row.work for row in monitor.energy(snn, spikescope.open_recording(tmp_path / "run.spk")).layers
    }
    for row in wanted.layers:
        if row.work.name in told:
            held = told[row.work.name]
            assert (held.macs, held.acs) == pytest.approx((row.work.macs, row.work.acs), rel=1e-5)
    assert told["3"].acs > 0


def test_a_height_for_each_channel_is_known_too():
    class Scaled(ann2snn.ScaledNeuron):
        pass

    scale = torch.rand(4, 1, 1) + 0.5
    net = nn.Sequential(Scaled(scale), layer.Conv2d(4, 3, 3))
    functional.set_step_mode(net, "m")
    (row,) = (held for held in monitor.operations(net, torch.rand(T, N, 4, 5, 5)) if held.name == "1")
    assert (row.macs, row.acs > 0) == (0, True)


def test_what_is_no_multiple_of_a_height_stays_products():
    net = nn.Sequential(ann2snn.ScaledNeuron(0.7), layer.Linear(4, 3), neuron.IFNode())
    other = nn.Sequential(layer.Linear(4, 3), ann2snn.ScaledNeuron(0.7))
    (first,) = (held for held in monitor.operations(other, torch.full((N, 4), 0.3)) if held.name == "0")
    assert (first.macs, first.acs) == (12, 0)
    (behind,) = (held for held in monitor.operations(net, torch.full((N, 4), 0.7)) if held.name == "1")
    assert (behind.macs, behind.acs) == (0, 12)


@pytest.mark.parametrize(("dtype", "height"), [(torch.bfloat16, 10.0), (torch.float16, 100.0), (torch.float32, 1e6)])
def test_values_far_below_a_height_are_no_absent_spikes(dtype, height):
    x = torch.rand(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert of_height_one(x, [torch.tensor(height)]) is x
    spikes = (x > 0.5) * 3.0
    assert torch.equal(of_height_one((spikes * height / 7).to(dtype), [torch.tensor(height / 7)]), spikes.to(dtype))
