"""What monitors see of neurons of other libraries, against what plain hooks of PyTorch see."""

import math
from contextlib import ExitStack

import pytest
import torch
from foreign_cases import MADE, REAL, N, T, drive, made, spikes_in

import spikescope
from spikescope import monitor

KINDS = [(make, "stand-in") for make in MADE] + [(make, "real") for make in REAL]
every_case = pytest.mark.parametrize(("make", "kind"), KINDS, ids=[f"{make.__name__}-{kind}" for make, kind in KINDS])


@pytest.fixture
def case(make, kind):
    return made(make, kind)


def run_twice(case, resets=True, backward=False):
    """Two sequences; the spikes of the first neurons as a hook sees them, `[T, 2 * N, F]`."""
    spikes, runs = [], []
    neuron = case.net.get_submodule(case.layers[1])
    handle = neuron.register_forward_hook(lambda module, args, out: spikes.append(spikes_in(out).detach()))
    for x in drive():
        y = case.run(case.net, x)
        if backward:
            (y * torch.arange(1, T + 1).view(T, 1, 1)).sum().backward()
        runs.append(case.joined(spikes))
        spikes.clear()
        if case.reset is not None and resets:
            case.reset(case.net)
    handle.remove()
    return runs


@every_case
def test_spikes_and_their_counts(case):
    with (
        monitor.record(case.net, "raw") as raw,
        monitor.record(case.net) as counted,
        monitor.record(case.net, "rate over time") as course,
    ):
        runs = run_twice(case)
    spikes = torch.cat(runs, 1)
    assert 0 < spikes.mean() < 1
    assert not spikes[:2].any()
    name = case.layers[1]
    assert torch.equal(raw[name], spikes)
    assert torch.allclose(counted[name]["rate"], spikes.double().mean((0, 1)))
    assert counted[name]["silent share"] == (spikes.sum((0, 1)) == 0).double().mean()
    assert torch.allclose(course[name], spikes.double().mean((1, 2)))
    assert len(counted) == 2
    assert not counted.never_fired


@every_case
def test_a_recording_on_disk_has_the_runs_steps_and_bits(case, tmp_path):
    layer, name = case.layers
    signals = {"spike": None, "output": layer} | ({"v": None} if case.potential else {})
    with monitor.record(case.net, signals, to=tmp_path / "run") as streamed:
        runs = run_twice(case)
    held = spikescope.open_recording(streamed.path)
    found = held[name]["spike"]
    assert [(run.steps, run.samples) for run in found.runs] == [(T, N)] * 2
    for at, spikes in enumerate(runs):
        assert torch.equal(found.read(run=at), spikes)
    assert [run.steps for run in held[layer]["output"].runs] == ([T, T] if case.steps else [1, 1])
    if case.potential:
        assert [(run.steps, run.samples) for run in held[name]["v"].runs] == [(T, N)] * 2
        assert held[name]["v"].read(run=0).abs().sum() > 0
    assert held.head["layers"][name]["library"]


@every_case
def test_gradients_find_their_steps(case):
    seen = []

    def watch(module, args, out):
        spikes_in(out).register_hook(seen.append)

    with monitor.record(case.net, "gradient norm", case.layers[1], "grad_output") as recording:
        handle = case.net.get_submodule(case.layers[1]).register_forward_hook(watch)
        run_twice(case, backward=True)
        handle.remove()
    half = len(seen) // 2
    grads = [case.joined(held[::-1]) for held in (seen[:half], seen[half:])]
    wanted = torch.cat(grads, 1).double().square().sum((1, 2)).sqrt()
    assert torch.allclose(recording[case.layers[1]], wanted, rtol=1e-5)
    assert wanted[0] > 0


@every_case
def test_health_names_the_layer_that_is_silent_and_nothing_else_of_a_sound_one(case):
    wrong = {"one neuron used twice", "state carried over", "not watched", "no gradient arrives", "silent layer"}
    with monitor.health(case.net) as watch:
        run_twice(case, backward=True)
    assert not wrong & {held.kind for held in watch.everything}
    assert any(case.layers[1] in text and "other libraries" in text for text in watch.unjudged)
    with torch.no_grad():
        case.net.get_submodule(case.layers[0]).weight.zero_()
    with monitor.health(case.net) as watch:
        run_twice(case)
    assert ("silent layer", case.layers[1]) in {(held.kind, held.layer) for held in watch.everything}


@every_case
def test_a_forgotten_reset_is_a_finding_where_the_state_stays(case, make):
    if case.reset is None:
        pytest.skip("the state is passed from call to call: there is nothing to forget")
    with monitor.health(case.net) as watch, ExitStack() as stack:
        stack.callback(case.reset, case.net)
        with torch.set_grad_enabled(not case.steps):
            for x in drive():
                y = case.run(case.net, x)
                if not case.steps:
                    y.sum().backward(retain_graph=True)
    if case.steps:
        assert not {"one neuron used twice"} & {held.kind for held in watch.everything}
    else:
        (found,) = (held for held in watch.everything if held.kind == "state carried over")
        assert "reset" in found.line


@every_case
def test_work_counts_an_addition_for_each_spike_and_synapse(case):
    x, spikes = case.called(drive()[0]), []
    neuron = case.net.get_submodule(case.layers[1])
    handle = neuron.register_forward_hook(lambda module, args, out: spikes.append(spikes_in(out)))
    case.net(x)
    handle.remove()
    if case.reset is not None:
        case.reset(case.net)
    rows = {row.name: row for row in monitor.operations(case.net, x, N)}
    second = [name for name, row in rows.items() if row.kind == "Linear"][1]
    assert math.isclose(rows[second].acs * N, 2 * sum(held.sum().item() for held in spikes))
    assert rows[case.layers[1]].updates * N == sum(held.numel() for held in spikes)
