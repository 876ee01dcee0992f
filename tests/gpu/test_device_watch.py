"""What looks into a network on the device sees what it would see on a CPU, in memory, on disk and on a page."""

import math
import sys
from pathlib import Path

import pytest
import torch
from device_cases import SMALL
from torch import nn

import spikescope
from spikescope import analysis, functional, layer, monitor, neuron

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor" / "health"))

from health_networks import BROKEN, watched
from health_sound import SOUND

REDUCERS = {words: cls for words, cls in monitor.reduce.registry.items() if "spike" in (cls.signals or ("spike",))}
FEW = (lambda names: list(names)[::20]) if SMALL else list
X = torch.randint(0, 4, (6, 3, 16), generator=torch.Generator().manual_seed(0)).float() / 2


def net_of(device):
    """Weights and inputs are short fractions of powers of two: sums of them round nowhere."""
    generator = torch.Generator().manual_seed(2)
    net = nn.Sequential(layer.Linear(16, 32), neuron.IFNode(), layer.Linear(32, 8), neuron.IFNode())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-2, 4, parameter.shape, generator=generator) / 8)
    functional.set_step_mode(net, "m")
    return net.to(device)


def assert_alike(got, want):
    assert type(got) is type(want)
    if isinstance(want, torch.Tensor):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-6, equal_nan=True)
    elif isinstance(want, dict):
        assert got.keys() == want.keys()
        for key, held in want.items():
            assert_alike(got[key], held)
    elif isinstance(want, list | tuple):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_alike(a, b)
    elif isinstance(want, float):
        assert math.isclose(got, want, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(got) and math.isnan(want))
    elif isinstance(want, int | str | bool | None):
        assert got == want


@pytest.mark.parametrize("words", FEW(REDUCERS))
def test_every_reducer(words, device):
    cls, found = REDUCERS[words], []
    for place in (device, torch.device("cpu")):
        net = net_of(place)
        with monitor.record(net, [cls(**cls.example)]) as recording:
            for _ in range(2):
                net(X.to(place))
                functional.reset_net(net)
        found.append(dict(recording.items()))
    assert_alike(*found)


def test_spikes_on_disk(device, tmp_path):
    net = net_of(device)
    with monitor.OutputMonitor(net, neuron.IFNode) as want, monitor.record(net, to=tmp_path / "run.spk"):
        for _ in range(3):
            net(X.to(device))
            functional.reset_net(net)
    held = spikescope.open_recording(tmp_path / "run.spk")
    for name in ("1", "3"):
        got = held[name]["spike"]
        for run, wanted in enumerate(want[name]):
            assert torch.equal(got.read(run=run), wanted.cpu())


def moved(build, device):
    torch.manual_seed(0)
    scene = build()
    scene.net, scene.x = scene.net.to(device), scene.x.to(device)
    return scene


@pytest.mark.parametrize("name", FEW(BROKEN))
def test_every_cause_is_found(name, device):
    place, kind, build = BROKEN[name]
    first = watched(moved(build, device)).findings[0]
    assert (first.kind, place in (None, first.layer)) == (kind, True)


@pytest.mark.parametrize("name", FEW(SOUND))
def test_nothing_is_found_in_a_sound_network(name, device):
    assert watched(moved(SOUND[name], device)).findings == []


def test_the_device_against_a_cpu(device):
    told = analysis.compare(net_of(device), net_of("cpu"), X)
    assert told.same, str(told)


def test_pages(device, tmp_path):
    net = net_of(device)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with monitor.health(net) as watch, spikescope.live(net, quiet=True) as view:
        for _ in range(3):
            net(X.to(device)).sum().backward()
            optimizer.step()
            functional.reset_net(net)
        live = view.report(tmp_path / "live.html")
    for page in (live, watch.report(tmp_path / "health.html")):
        assert "<svg" in page.read_text()
