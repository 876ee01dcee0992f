"""Gradients where the loss does not see every step: each is of its own step, and of the others it is zero."""

import itertools

import pytest
import torch
from torch import nn

from spikescope import functional, monitor, neuron, open_recording
from spikescope.monitor import GradOutputMonitor, Subset, record

T, CHOICES = 4, [held for n in range(1, 5) for held in itertools.combinations(range(4), n)]
SIGNALS = ["grad_output", "grad_input"]


def network(step_mode):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), neuron.LIFNode(), nn.Linear(5, 4), neuron.LIFNode(v_threshold=0.2))
    return functional.set_step_mode(net, step_mode) or net


def given():
    return torch.rand(T, 2, 3, generator=torch.Generator().manual_seed(1)) * 4


def loss(out, seen):
    return sum(((i + 1) * out[i]).sum() for i in seen)


def run(net, seen, cut=None):
    """Forwards and backwards through what the loss sees; the graph is cut before the step `cut`."""
    x = given()
    if next(m for m in net if isinstance(m, neuron.Neuron)).step_mode == "m":
        out = net(x)
    else:
        out = []
        for i, step in enumerate(x):
            if i == cut:
                functional.detach_net(net)
            out.append(net(step))
    loss(out, seen).backward()
    functional.reset_net(net)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("seen", CHOICES, ids=str)
def test_steps_and_sequences_agree_whatever_the_loss_sees(seen, signal, tmp_path):
    kept = {}
    for mode in "sm":
        net = network(mode)
        with (
            record(net, ["raw", "gradient norm", "moments"], neuron.Neuron, signal=signal) as held,
            record(net, signal, neuron.Neuron, to=tmp_path / mode),
        ):
            for _ in range(2):
                run(net, seen)
        disk = open_recording(tmp_path / mode)
        kept[mode] = (
            held,
            {name: [row[signal].read(run.index) for run in row[signal].runs] for name, row in disk.items()},
        )
    (steps, there), (whole, wanted) = kept["s"], kept["m"]
    for name in ("1", "3"):
        assert len(there[name]) == len(wanted[name]) == 2
        for a, b in zip(there[name], wanted[name], strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(steps[name]["raw"], whole[name]["raw"])
        torch.testing.assert_close(steps[name]["gradient norm"], whole[name]["gradient norm"])
        assert tuple(steps[name]["moments"]) == pytest.approx(tuple(whole[name]["moments"]), rel=1e-5)
    raw = steps["3"]["raw"]
    assert raw.shape[0] == T
    if signal == "grad_output":
        assert {i for i in range(T) if raw[i].any()} == set(seen)


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("seen", [(3,), (0, 3), (2,), (0,)], ids=str)
def test_a_cut_graph_leaves_zeros_where_the_backward_pass_does_not_come(cut, seen, tmp_path):
    """The gradient of an output is of that step alone, so the cut changes nothing in the last layer."""
    net = network("s")
    with record(net, "raw", "3", signal="grad_output") as held, record(net, "grad_output", "3", to=tmp_path / "a"):
        run(net, seen, cut)
        assert held["3"].shape == (T, 2, 4)
        shown = held["3"]
        run(net, seen, cut)
    wanted = torch.zeros(T, 2, 4)
    for i in seen:
        wanted[i] = i + 1
    assert torch.equal(shown, wanted)
    disk = open_recording(tmp_path / "a")["3"]["grad_output"]
    assert all(torch.equal(disk.read(run.index), wanted) for run in disk.runs)
    assert len(disk.runs) == 2


def test_each_part_of_a_truncated_backward_pass_has_its_steps():
    """Two steps forwards, backwards by the first of them, and so on: the second has zero each time."""
    net = network("s")
    with record(net, "gradient norm", "3", signal="grad_output") as held:
        x = given()
        for part in (x[:2], x[2:]):
            out = [net(step) for step in part]
            loss(out, [0]).backward()
            functional.detach_net(net)
    assert held["3"].tolist() == pytest.approx([8**0.5, 0, 8**0.5, 0])


def test_a_second_pass_by_other_steps_is_a_run_of_its_own():
    net = network("s")
    with record(net, "raw", "3", signal="grad_output") as held:
        out = [net(step) for step in given()]
        loss(out, [1]).backward(retain_graph=True)
        loss(out, [2]).backward()
    first, second = held["3"].split(2, dim=1)
    assert [i for i in range(T) if first[i].any()] == [1]
    assert [i for i in range(T) if second[i].any()] == [2]


def test_reading_in_between_changes_nothing():
    net = network("s")
    with record(net, "gradient norm", "3", signal="grad_output") as held:
        for seen in ([1], [2], [3]):
            run(net, seen)
            shown = held["3"].tolist()
            assert held["3"].tolist() == shown
    assert held["3"].tolist() == pytest.approx([0, 2 * 8**0.5, 3 * 8**0.5, 4 * 8**0.5])


def test_a_recording_that_grows_can_be_read_after_each_backward_pass(tmp_path):
    net = network("s")
    with record(net, "grad_output", "3", to=tmp_path / "a") as stream:
        run(net, [1], cut=1)
        assert stream.open()["3"]["grad_output"].read(0).sum((1, 2)).tolist() == [0, 16, 0, 0]
        run(net, [2])
    assert open_recording(tmp_path / "a")["3"]["grad_output"].read(1).sum((1, 2)).tolist() == [0, 0, 24, 0]


@pytest.mark.filterwarnings("ignore:the flight recorder")
@pytest.mark.parametrize("others", [False, True])
def test_the_flight_recorder_knows_the_step_of_each_gradient(others, tmp_path):
    """It hears a neuron by a short way, unless somebody else listens there."""
    net, steps = network("s"), [(3,), (0, 1, 2, 3), (1,), (1, 2), (0,)]
    with monitor.flight_recorder(net, "8 steps", to=tmp_path, signals=["spike", "grad_output"], report=False) as held:
        for seen in steps:
            if others:
                with monitor.OutputMonitor(net, neuron.Neuron):
                    run(net, seen)
            else:
                run(net, seen)
        rows = open_recording(held.dump())["3"]["grad_output"]
    found = [tuple(i for i, value in enumerate(rows.read(run.index)) if value.any()) for run in rows.runs]
    assert found == steps


@pytest.mark.parametrize("signal", SIGNALS)
def test_single_steps_backwards_have_no_steps_to_choose_from(signal):
    net = network("s")
    kind = {"grad_output": GradOutputMonitor, "grad_input": monitor.GradInputMonitor}[signal]
    with pytest.raises(ValueError, match=r"come step by step.*Leave time out, or use step_mode='m'"):
        kind(net, neuron.Neuron, subset=Subset(time=slice(1, 2)))
    kind(network("m"), neuron.Neuron, subset=Subset(time=slice(1, 2)))
