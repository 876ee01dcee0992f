"""What one ear at a neuron hears is what the probes of its signals bring, whatever happens on the way."""

import copy
import gc
import math
import threading
import weakref

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.monitor.flight import steps as stepping
from spikescope.monitor.flight.checks.copying import copying
from spikescope.monitor.flight.checks.table import FINITE, LEAST
from spikescope.monitor.flight.ear import Ear
from spikescope.monitor.probe import single
from spikescope.neuron.fast.shortcut import short_way
from spikescope.sockets import found_sockets
from spikescope.spikes import PackedSpikes


def make(node=neuron.LIFNode):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3, padding=1), node(), layer.Conv2d(3, 3, 3), node(), layer.Flatten())
    functional.set_step_mode(net, "m")
    return net


def loss(y):
    """One whose gradients are those of no other neuron, silent ones included."""
    return (y - torch.linspace(0, 1, y.numel()).view_as(y)).square().sum()


class Training:
    """A network that trains while a recorder, and maybe others, watch it."""

    def __init__(self, net):
        self.net, self.step, self.others = net, 0, []
        self.generator = torch.Generator().manual_seed(1)

    def forward(self):
        self.step += 1
        return self.net(3 * torch.rand(4, 3, 2, 6, 6, generator=self.generator))

    def run(self, steps=2):
        for _ in range(steps):
            loss(self.forward()).backward()
            functional.reset_net(self.net)

    # what happens on the way

    def nothing(self):
        self.run()

    def another_monitor(self):
        self.others.append(monitor.record(self.net, "rate"))
        self.run()
        self.others[-1].close()

    def a_monitor_within_a_step(self):
        y = self.forward()
        self.others.append(monitor.record(self.net, "packed"))
        loss(y).backward()
        functional.reset_net(self.net)
        self.run()

    def a_hook(self):
        handle = self.net[1].register_forward_hook(lambda module, given, out: 2 * out)
        self.run()
        handle.remove()

    def evaluation(self):
        self.net.eval()
        self.run()
        self.net.train()

    def no_gradient(self):
        with torch.no_grad():
            self.forward()
        functional.reset_net(self.net)

    def no_backward(self):
        self.forward()
        functional.reset_net(self.net)

    def a_state_carried_over(self):
        for _ in range(3):
            loss(self.forward()).backward()
            functional.detach_net(self.net)
        functional.reset_net(self.net)

    def two_calls_and_one_backward(self):
        (loss(self.forward()) + loss(self.forward())).backward()
        functional.reset_net(self.net)

    def a_second_derivative(self):
        y = self.forward()
        (grad,) = torch.autograd.grad(loss(y), self.net[0].weight, create_graph=True)
        grad.square().sum().backward()
        functional.reset_net(self.net)

    def a_graph_that_is_kept(self):
        y = loss(self.forward())
        y.backward(retain_graph=True)
        y.backward()
        functional.reset_net(self.net)

    def half_of_the_batch(self):
        for samples in (2, 3, 2, 2, 3):
            loss(self.net(3 * torch.rand(4, samples, 2, 6, 6, generator=self.generator))).backward()
            functional.reset_net(self.net)

    def gradients_of_another_layout(self):
        y = self.net[:4](3 * torch.rand(4, 3, 2, 6, 6, generator=self.generator))
        y.backward(torch.rand(y.transpose(3, 4).shape, generator=self.generator).transpose(3, 4))
        functional.reset_net(self.net)

    def inference(self):
        with torch.inference_mode():
            self.forward()
        functional.reset_net(self.net)

    def a_copy(self):
        functional.reset_net(self.net)
        other = copy.deepcopy(self.net)
        other(torch.rand(4, 3, 2, 6, 6)).sum().backward()

    def a_neuron_exchanged(self):
        self.net[1].v_threshold = 0.75
        self.run()

    def two_calls_the_second_of_a_sample_that_is_not_finite(self):
        y = loss(self.forward())
        x = torch.rand(4, 3, 2, 6, 6, generator=self.generator)
        x[1, 2, 0, 0, 0] = math.nan
        (y + loss(self.net(x))).backward()
        functional.reset_net(self.net)

    def a_sample_that_is_not_finite(self):
        x = torch.rand(4, 3, 2, 6, 6, generator=self.generator)
        x[1, 2, 0, 0, 0] = math.nan
        loss(self.net(x)).backward()
        functional.reset_net(self.net)


EVENTS = [name for name, held in vars(Training).items() if callable(held) and name[0] != "_" and name != "forward"]


def plain(entry):
    held = entry.values
    kind = (held.shape, held.dtype) if isinstance(held, PackedSpikes) else None
    return (entry.signal, entry.moment, kind), held.bits if kind else held


def watched(event, place, signals):
    """All that a recorder has kept, and whether gradients are those of a training without."""
    training = Training(make())
    with monitor.flight_recorder(training.net, 40, "nonfinite", place, report=False, signals=signals) as recorder:
        training.run(4)
        getattr(training, event)()
        training.run(4)
        frames = [*recorder.ring.frames, recorder.ring.open]
        reports = [probe.report()[:4] for probe in recorder._steps.probes]
        return frames, [str(held) for held in recorder.errors], reports, training.net[0].weight.grad


@pytest.mark.filterwarnings("ignore:The probe of")
@pytest.mark.parametrize("signals", [("spike",), ("spike", "h", "grad_output"), ("spike", "grad_output")], ids=len)
@pytest.mark.parametrize("event", EVENTS)
def test_an_ear_hears_what_the_probes_bring(event, signals, tmp_path, monkeypatch):
    heard = []
    hears = Ear.hears
    monkeypatch.setattr(Ear, "hears", lambda *given: [heard.append(given[0]), hears(*given)])
    frames, errors, reports, grad = watched(event, tmp_path / "ear", signals)
    assert len(heard) > 4, "this is not what the test is about"
    count = len(heard)
    monkeypatch.setattr(stepping, "Ear", lambda *given: None)
    others, *rest = watched(event, tmp_path / "probes", signals)
    assert len(heard) == count
    assert (errors, reports) == tuple(rest[:2])
    torch.testing.assert_close(grad, rest[2], rtol=0, atol=0, equal_nan=True)
    assert [len(frame.entries) for frame in frames] == [len(frame.entries) for frame in others]
    assert sum(len(frame.entries) for frame in frames) > 8
    for frame, other in zip(frames, others, strict=True):
        assert (frame.number, frame.nbytes) == (other.number, other.nbytes)
        for one, two in zip(map(plain, frame.entries), map(plain, other.entries), strict=True):
            assert one[0] == two[0]
            torch.testing.assert_close(one[1], two[1], rtol=0, atol=0, equal_nan=True)
    gradients = [entry.values for frame in frames for entry in frame.entries if entry.signal == "grad_output"]
    assert all(held.count_nonzero() > held.numel() // 2 for held in gradients)
    for entry in (entry for frame in frames for entry in frame.entries if entry.seen is not None):
        spikes = isinstance(entry.values, PackedSpikes)
        assert entry.seen == bool(entry.values.bits.any() if spikes else not entry.values.isfinite().all())


def test_the_first_call_of_a_kind_is_checked_on_the_long_way(tmp_path):
    training = Training(make())
    with monitor.flight_recorder(training.net, 40, (), tmp_path, report=False):
        training.run(4)
        short = short_way(training.net[1])
        before = len(short.runs)
        training.net(torch.rand(4, 2, 2, 6, 6))
        functional.reset_net(training.net)
        assert (short_way(training.net[1]), len(short.runs)) == (short, before)
        training.net(torch.rand(4, 2, 2, 6, 6))
        assert len(short.runs) == before + 1


def test_a_weight_that_was_lost_is_told_where_the_values_that_showed_it_are_over_the_budget(tmp_path):
    net, weight = large("within")
    with monitor.flight_recorder(net, 12, ("nonfinite",), tmp_path, report=False) as recorder:
        for step in range(8):
            if step == 6:
                weight.data[-1, -1] = math.inf
                recorder.ring.limit = 20_000  # of a step is left its last gradient
            net(4 * torch.rand(4, 2, 8)).square().mean().nan_to_num().backward()
            functional.reset_net(net)
    assert [trigger[:2] for trigger in recorder.triggers] == [("nonfinite", 5)]


def test_an_input_that_is_changed_before_it_could_be_kept_is_said(tmp_path):
    training = Training(make())
    with monitor.flight_recorder(training.net, 40, (), tmp_path, report=False) as recorder:
        training.run(4)
        came = training.net[0](3 * torch.rand(4, 3, 2, 6, 6))
        training.net[1:](came)
        came.detach().zero_()  # no backward pass has come by
        functional.reset_net(training.net)
        with pytest.warns(RuntimeWarning, match="probe of input of '1' is off"):
            training.run(2)
        (error,) = recorder.errors
        assert "was changed in place" in str(error)
        signals = [entry.signal for entry in recorder.ring.frames[-1].entries if entry.moment.name == "1"]
        assert signals == ["spike", "grad_output"]


def test_potentials_of_a_step_that_ends_in_an_error_are_there(tmp_path):
    training = Training(make())
    with monitor.flight_recorder(training.net, 40, (), tmp_path, report=False) as recorder:
        training.run(4)
        training.forward()  # and no more: as where an exception comes
        seen = [(entry.signal, entry.moment.name) for entry in recorder.ring.open.entries]
        assert seen == [("current", "1"), ("spike", "1"), ("current", "3"), ("spike", "3")]


def test_a_turn_that_never_comes_ends_the_recorder_and_not_the_training(tmp_path, monkeypatch):
    training = Training(make())
    monkeypatch.setattr(single, "_PATIENCE", 0.1)
    with monitor.flight_recorder(training.net, 40, (), tmp_path, report=False) as recorder:
        training.run(4)
        turn, held, done = recorder.ring.turn, threading.Event(), threading.Event()

        def hold():
            with turn:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        held.wait()
        try:
            with pytest.warns(RuntimeWarning, match="seems to wait for this thread"):
                training.forward().sum().backward()
        finally:
            done.set()
            thread.join()
        assert len(recorder.errors) >= 3


def test_a_state_that_goes_on_keeps_no_recorder(tmp_path):
    training = Training(make())
    recorder = monitor.flight_recorder(training.net, 40, (), tmp_path, report=False)
    training.run(4)
    loss(training.forward()).backward()
    assert training.net[1].v.grad_fn.ear is not None
    held = [weakref.ref(each) for each in (recorder, recorder.ring, recorder.ring.open.entries[1].values)]
    del recorder
    gc.collect()
    assert [each() for each in held] == [None] * 3
    functional.reset_net(training.net)
    training.run()


def test_who_plugs_in_hears_all_that_comes_and_the_recorder_too(tmp_path):
    training = Training(make())
    alone = Training(make())
    with monitor.flight_recorder(training.net, 40, (), tmp_path, report=False) as recorder:
        training.run(3)
        ear = found_sockets(training.net[1])[0].ear
        with monitor.record(training.net, "packed") as record:
            training.run(3)
            assert found_sockets(training.net[1])[0].ear is None
        assert len(recorder.ring.frames) == 5
        training.run(1)
        assert found_sockets(training.net[1])[0].ear is ear is not None
    assert found_sockets(training.net[1])[0].ear is None
    alone.run(3)
    with monitor.record(alone.net, "packed") as expected:
        alone.run(3)
    for name in ("1", "3"):
        assert torch.equal(record[name].dense(), expected[name].dense())


@pytest.mark.parametrize("dtype", FINITE)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_copy_is_whole_and_says_whether_a_number_is_not_finite(dtype, threads):
    for count, rows, start in ((1, 1, 0), (7, 3, 0), (8, 4, 1), (33, 2, 3), (64, 2, 0), (9000, 2, 0), (4097, 2, 5)):
        given = torch.randn(rows, count + 11).to(dtype)
        for place in (None, 0, count // 2, count - 1):
            x, odd = given.clone(), torch.tensor(math.nan if count % 2 else -math.inf).to(dtype)
            x[:, count:] = odd  # beside what is copied
            if place is not None:
                x[-1, place] = odd
            memory = torch.zeros(start + rows * count + 9, dtype=dtype)
            y = memory[start : start + rows * count]
            size = x.element_size()
            job = [x.data_ptr(), y.data_ptr(), rows, x.stride(0) * size, count, FINITE[dtype], threads]
            job = torch.tensor([*job, 0, 0, 0, 7])
            copying()(job.data_ptr(), 1)
            assert job[-1] == 7, "no bits were asked about"
            torch.testing.assert_close(y.view(rows, count), x[:, :count], rtol=0, atol=0, equal_nan=True)
            assert bool(job[7]) == (place is not None), (count, rows, start, place)
            assert not memory[:start].any()
            assert not memory[start + rows * count :].any()


def test_a_copy_says_too_whether_a_bit_is_set():
    x = torch.zeros(1)
    for count in (1, 63, 64, 65, 200):
        for place in (None, 0, count // 2, count - 1):
            bits, y = torch.zeros(count + 1, dtype=torch.uint8), torch.ones(1)
            bits[count] = 1  # beside those that are asked about
            if place is not None:
                bits[place] = 128
            job = [x.data_ptr(), y.data_ptr(), 1, 4, 1, FINITE[x.dtype], 1, 0, bits.data_ptr(), count, 7]
            asked = torch.tensor(job)
            copying()(asked.data_ptr(), 1)
            assert y == 0
            assert asked[-1] == (place is not None), (count, place)


def large(lost_in):
    """A network with more weights than are looked at in a step; the outputs of one layer go nowhere."""
    torch.manual_seed(0)
    width = 2 * math.isqrt(LEAST)
    net = nn.Sequential(
        layer.Linear(8, width), neuron.LIFNode(), layer.Linear(width, width), neuron.LIFNode(), layer.Linear(width, 4)
    )
    functional.set_step_mode(net, "m")
    unused = nn.Linear(width, width)
    net[0].unused = unused
    return net, net[2].weight if lost_in == "within" else unused.weight


@pytest.mark.parametrize("lost_in", ["within", "apart"])
def test_a_weight_among_many_is_found_by_what_follows_or_in_its_turn(lost_in, tmp_path):
    net, weight = large(lost_in)
    with monitor.flight_recorder(net, 12, ("nonfinite",), tmp_path, report=False) as recorder:
        for step in range(30):
            if step == 12:
                weight.data[-1, -1] = math.inf
            net(4 * torch.rand(4, 2, 8)).square().mean().backward()
            functional.reset_net(net)
            if step > 12 and lost_in == "within":
                with torch.no_grad():
                    for held in net.parameters():
                        held.add_(math.nan)  # an update spreads it
    assert recorder._judge._glance.turns > 2
    (trigger,) = recorder.triggers
    assert trigger.kind == "nonfinite"
    assert "weight" in trigger.words
    if lost_in == "within":
        assert (trigger.step, trigger.layer) == (11, "2")
        assert "after the update there" in trigger.words
    else:
        assert 11 <= trigger.step < 11 + 12
        assert trigger.layer == "0.unused"
        assert "one of the" in trigger.words
