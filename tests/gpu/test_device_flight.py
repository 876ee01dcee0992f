"""The flight recorder on a GPU: it keeps and finds what it does on a CPU, and nobody waits for the device."""

import math

import pytest
import torch
from device_cases import SMALL
from dynamics_cases import inputs
from torch import nn

import spikescope
from spikescope import functional, layer, monitor, neuron
from spikescope.monitor.flight.checks import gpu as elsewhere

T, N = 6, 3
STEP, SAMPLE, TIME = 7, 2, 4  # where something is planted


@pytest.fixture(autouse=True)
def rehearsed(monkeypatch):
    """Have the kernel of a GPU look at tensors of a CPU in a rehearsal."""
    if SMALL:
        monkeypatch.setattr(elsewhere, "PLACES", ("cpu",))


def make(device, norm=False):
    torch.manual_seed(0)
    blocks = [(layer.Linear(8, 16), *([layer.BatchNorm1d(16)] if norm else []), neuron.LIFNode()) for _ in range(2)]
    net = nn.Sequential(*blocks[0], layer.Linear(16, 8), *blocks[1], layer.Linear(16, 4)).to(device)
    functional.set_step_mode(net, "m")
    return net


def train(net, frames, recorder, before=lambda step, net, x: None, rate=0.01):
    """Updates, one a sequence of frames."""
    optimizer = torch.optim.SGD(net.parameters(), rate)
    for step, x_seq in enumerate(frames):
        before(step, net, x_seq)
        loss = (net(x_seq).mean(0) - 1).square().mean()
        recorder.loss(loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        functional.reset_net(net)


def frames(device, count=10):
    return [(inputs(T, N, 8, seed=step) * 4).to(device) for step in range(count)]


def in_the_input(net, x):
    x[TIME, SAMPLE, 3] = math.nan


def in_a_weight(net, x):
    net[3].weight.data[1, 2] = math.inf


def in_the_loss(net, x):
    net[-1].bias.data[0] = math.nan


CASES = {  # what is planted: step, layer, sample and time of the trigger
    "input": (in_the_input, STEP, "", SAMPLE, TIME),
    "weight": (in_a_weight, STEP - 1, "3", None, None),  # as after the update of the step before
    "loss": (in_the_loss, STEP - 1, "5", None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_finite_is_found_with_its_step_and_place(case, device, tmp_path):
    plant, *wanted = CASES[case]
    net = make(device)
    with monitor.flight_recorder(net, keep=4, to=tmp_path, report=False) as recorder:
        train(net, frames(device), recorder, lambda step, net, x: plant(net, x) if step == STEP else None)
    (found,) = recorder.triggers
    assert [found.step, found.layer, found.sample, found.time] == wanted, found
    recording = spikescope.open_recording(recorder.dumps[0])
    assert recording.notes[recording.head["flight"]["trigger"]["run"]]["step"] == wanted[0]


def test_what_is_kept_is_what_is_kept_on_a_cpu(device, tmp_path):
    kept = []
    for place in (device, torch.device("cpu")):
        net = nn.Sequential(neuron.LIFNode(), neuron.IFNode())  # whose values are the same on both, bit for bit
        functional.set_step_mode(net, "m")
        net = net.to(place)
        with monitor.flight_recorder(net, keep=3, to=tmp_path, samples=2, report=False) as recorder:
            for x_seq in frames(place, 5):
                net(x_seq.requires_grad_()).square().sum().backward()
                functional.reset_net(net)
            kept.append(spikescope.open_recording(recorder.dump()))
    assert [note["step"] for note in kept[0].notes] == [2, 3, 4]
    for name in ("0", "1"):
        for run in range(3):
            for signal in ("spike", "h"):
                assert torch.equal(*(held[name][signal].read(run) for held in kept)), (name, signal, run)
            torch.testing.assert_close(*(held[name]["grad_output"].read(run) for held in kept), rtol=1e-4, atol=1e-5)
        assert kept[0][name]["spike"].read(0).any()


@pytest.mark.real_gpu
@pytest.mark.parametrize("norm", [False, True], ids=["linear", "normalised"])
def test_a_sound_step_waits_for_nothing(device, norm, tmp_path):
    net, given = make(device, norm), frames(device, 8)
    with monitor.flight_recorder(net, keep=3, to=tmp_path) as recorder:
        train(net, given, recorder)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            train(net, given, recorder)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert [probe.error for probe in recorder._steps.probes if probe.error] == []
        torch.cuda.synchronize()
    assert recorder._steps.count == 16
    assert not recorder.triggers
    assert all(math.isfinite(frame.told["loss"]) for frame in recorder.ring.frames)
