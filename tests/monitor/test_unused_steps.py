"""Gradients where the loss does not see every step: each is of its own step, and of the others it is zero."""

import contextlib
import itertools
import threading

import pytest
import torch
from torch import nn

from spikescope import functional, monitor, neuron, open_recording
from spikescope.monitor import GradOutputMonitor, Subset, record
from spikescope.monitor.flight.ear import Ear
from spikescope.sockets.points import Point, Signal

T, CHOICES = 4, [held for n in range(1, 5) for held in itertools.combinations(range(4), n)]
SIGNALS = ["grad_output", "grad_input"]
SEEN = ["spike", "grad_output"]


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
    if not isinstance(net, nn.Sequential) or net[1].step_mode == "m":
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


@pytest.mark.parametrize("lengths", [(0,), (0, 2), (2, 0), (2, 0, 2), (0, 0, 3)], ids=str)
def test_a_sequence_without_steps_has_gradients_of_none(lengths, tmp_path):
    net = network("m")
    with record(net, "raw", "3", signal="grad_output") as held, record(net, "grad_output", "3", to=tmp_path / "a"):
        sum((i + 1) * net(given()[:length]).sum() for i, length in enumerate(lengths)).backward()
    wanted = [8.0 * (i + 1) for i, length in enumerate(lengths) for _ in range(length)]
    assert held["3"].sum((1, 2)).tolist() == wanted
    runs = open_recording(tmp_path / "a")["3"]["grad_output"]
    assert [runs.read(run.index).sum((1, 2)).tolist() for run in runs.runs] == [wanted]


@pytest.mark.parametrize("look", ["flush", "open"])
def test_looking_at_a_recording_in_the_middle_of_a_backward_pass_changes_nothing(look, tmp_path):
    net = network("s")
    with record(net, "grad_output", "3", to=tmp_path / "a") as stream:
        out = [net(step) for step in given()]
        out[2].register_hook(lambda grad: getattr(stream, look)() and None)
        loss(out, range(T)).backward()
        functional.reset_net(net)
        out = [net(step) if i != 2 else functional.detach_net(net) or net(step) for i, step in enumerate(given())]
        loss(out, [3]).backward()
        getattr(stream, look)()
        loss(out, [1]).backward()
    disk = open_recording(tmp_path / "a")["3"]["grad_output"]
    assert disk.read(0).sum((1, 2)).tolist() == [8, 16, 24, 32]
    assert disk.read(1).sum((1, 2)).tolist() == [0, 16, 0, 32]


def test_what_a_probe_that_failed_did_not_take_is_lost_and_not_zero(tmp_path):
    net = network("s")
    stream = record(net, "grad_output", "3", to=tmp_path / "a")
    out = [functional.detach_net(net) or net(step) for step in given()]
    loss(out, [3]).backward(retain_graph=True)
    with pytest.warns(RuntimeWarning, match="is off: ValueError: A backward pass came through steps"):
        loss(out, [3]).backward()
    loss(out, [2]).backward()
    functional.reset_net(net)
    net(given()[0])
    with pytest.raises(ValueError, match="A backward pass came through steps"):
        stream.close()
    disk = open_recording(tmp_path / "a")["3"]["grad_output"]
    with pytest.raises(ValueError, match="The steps 0 to 3 of run 0 of 'grad_output' of '3' are lost"):
        disk.read(0)


@pytest.mark.parametrize("seen", [((1,), ()), ((1,), (2,)), ((0, 3), (0, 1, 2, 3))], ids=str)
def test_a_gradient_of_an_earlier_run_is_of_that_run(seen, tmp_path):
    """As of two views of one sample, each from rest, and one loss."""
    net = network("s")
    with (
        record(net, ["raw", "gradient norm"], "3", signal="grad_output") as held,
        record(net, "grad_output", "3", to=tmp_path / "a"),
    ):
        outs = []
        for _ in range(2):
            outs.append([net(step) for step in given()])
            functional.reset_net(net)
        sum(loss(out, steps) for out, steps in zip(outs, seen, strict=True)).backward()
    wanted = [[8.0 * (i + 1) if i in steps else 0.0 for i in range(T)] for steps in seen if steps]
    raw = held["3"]["raw"].unflatten(1, (-1, 2)).sum((2, 3)).T.tolist()
    assert sorted(raw) == sorted(wanted)
    disk = open_recording(tmp_path / "a")["3"]["grad_output"]
    found = [disk.read(run).sum((1, 2)).tolist() for run, steps in enumerate(seen) if steps]
    assert found == wanted


def test_a_gradient_of_a_run_of_long_ago_is_refused_in_words():
    net = network("s")
    recording = record(net, "gradient norm", "3", signal="grad_output")
    outs = []
    for _ in range(12):
        outs.append([net(step) for step in given()])
        functional.reset_net(net)
    with pytest.warns(RuntimeWarning, match="A gradient came of a call whose forward pass was not seen, or long ago"):
        loss(outs[0], [1]).backward()
    with pytest.raises(ValueError, match="its step is not known"):
        recording["3"]


@pytest.mark.parametrize("signal", SIGNALS)
def test_threads_that_call_one_module_side_by_side_have_numbers_of_their_own(signal):
    """What is told of a call and what asks for its gradient agree, whatever other threads do in between."""
    point, met, found = Point(nn.ReLU(), Signal(signal), (), print), threading.Barrier(2, timeout=20), {}

    def work(i):
        asks = [point.number, lambda: point.asked(True)]
        for _ in range(3):
            for ask in asks if signal == "grad_output" else reversed(asks):
                met.wait()
                found.setdefault(i, []).append(ask())

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(row[::2] == row[1::2] for row in found.values())
    assert sorted(found[0][::2] + found[1][::2]) == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def heard(monkeypatch):
    """How many calls an ear has heard."""
    found, hears = [0], Ear.hears

    def counted(self, *args):
        found[0] += 1
        return hears(self, *args)

    monkeypatch.setattr(Ear, "hears", counted)
    return found


class Parts(nn.Module):
    """Calls a network for each step by itself: single steps, or sequences of it three times; some without a graph."""

    def __init__(self, mode, bare=0):
        super().__init__()
        self.inner, self.size, self.bare = network(mode), 3 if mode == "m" else 1, bare

    def forward(self, x):
        out = []
        for i, step in enumerate(x):
            with torch.set_grad_enabled(i >= self.bare):
                out.append(self.inner(step.expand(3, *step.shape) if self.size == 3 else step))
        return out


def flown(net, steps, place, others):
    """The gradients of the last layer that the flight recorder has of steps whose losses see these calls."""
    with monitor.flight_recorder(net, "8 steps", to=place, samples=2, signals=SEEN, report=False) as held:
        for seen in steps:
            with monitor.OutputMonitor(net, neuron.Neuron) if others else contextlib.nullcontext():
                run(net, seen)
        return open_recording(held.dump())["inner.3"]["grad_output"]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_the_flight_recorder_knows_the_steps_of_each_gradient(mode, others, heard, tmp_path):
    """It hears a neuron over sequences by a short way, unless somebody else listens there."""
    net, steps = Parts(mode), [(3,), (0, 1, 2, 3), (1,), (1, 2), (0,), (2, 3)]
    rows = flown(net, steps, tmp_path, others)
    assert (heard[0] > 0) == (mode == "m" and not others)
    for index, seen in enumerate(steps):
        wanted = torch.zeros(T, net.size, 2, 4)
        for i in seen:
            wanted[i] = i + 1
        assert torch.equal(rows.read(index), wanted.flatten(0, 1)), seen


@pytest.mark.parametrize("others", [False, True])
def test_the_flight_recorder_knows_which_calls_had_no_graph(others, heard, tmp_path):
    rows = flown(Parts("m", bare=2), [(3,)] * 5, tmp_path, others)
    assert (heard[0] > 0) == (not others)
    assert len(rows.runs) == 5
    for row in rows.runs:
        with pytest.raises(ValueError, match=f"The steps 0 to 6 of run {row.index} of"):
            rows.read(row.index)


@pytest.mark.parametrize("signal", SIGNALS)
def test_single_steps_backwards_have_no_steps_to_choose_from(signal):
    net = network("s")
    kind = {"grad_output": GradOutputMonitor, "grad_input": monitor.GradInputMonitor}[signal]
    with pytest.raises(ValueError, match=r"are of single steps.*Leave time out, or use step_mode='m'"):
        kind(net, neuron.Neuron, subset=Subset(time=slice(1, 2)))
    kind(network("m"), neuron.Neuron, subset=Subset(time=slice(1, 2)))
