"""The short ways into the ring keep what the long way keeps, and no later step writes over what somebody holds."""

from functools import partial

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.monitor.flight import steps as stepping
from spikescope.monitor.flight.checks.pending import Late
from spikescope.monitor.flight.ring import Ring
from spikescope.spikes import PackedSpikes


def make(node):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3, padding=1), node(), layer.Conv2d(3, 3, 3), node(), layer.Flatten())
    functional.set_step_mode(net, "m")
    return net


def doubled(net):
    net[1].register_forward_hook(lambda module, given, out: 2 * out)


def smooth(net):
    net[1].surrogate_function.spiking = False


def in_steps(net):
    functional.set_step_mode(net, "s")


def turned(net):
    net[1].register_forward_pre_hook(lambda module, given: (given[0].transpose(-1, -2),))


def sign_late(net):
    net[1].register_forward_pre_hook(lambda module, given: (torch._neg_view(given[0]),))


def silenced(net):
    net[1].v_threshold = 1e9


CHANGES = {
    "nothing": lambda net: None,
    "a hook on a neuron": doubled,
    "a surrogate that is smooth": smooth,
    "single steps": in_steps,
    "another layout": turned,
    "numbers whose sign is still to be changed": sign_late,
    "another dtype": lambda net: net.double(),
    "silence": silenced,
}


def seen(node, change, place, **options):
    """The frames of a training that changes on its way, the errors, and what had been judged."""
    net, generator, fired, came = make(node), torch.Generator().manual_seed(1), [], []
    net[0].register_forward_hook(lambda module, given, out: came.append(out.detach()))

    def told(step):
        fired.append((step.number, dict(step.fired)))

    with monitor.flight_recorder(net, keep=20, on=("nonfinite", told), to=place, report=False, **options) as recorder:
        for step in range(9):
            if step == 5:
                change(net)
            x_seq = 3 * torch.rand(4, 2 if step == 3 else 3, 2, 6, 6, generator=generator)
            x_seq[2, 1, 0, 0, 0] += torch.inf if step == 7 else 0
            x_seq = x_seq.to(net[0].weight.dtype)
            if net[0].step_mode == "s":
                sum(net(x).square().sum() for x in x_seq).backward()
            else:
                net(x_seq).square().sum().backward()
            for held in came:
                held.fill_(-1)  # in place, when the recorder has it
            came.clear()
            functional.reset_net(net)
        frames = [*recorder.ring.frames, recorder.ring.open]
        triggers = [held[:-1] for held in recorder.triggers]
        return frames, [str(error) for error in recorder.errors], fired, triggers


def plain(entry):
    held = entry.values
    kind = (held.shape, held.dtype) if isinstance(held, PackedSpikes) else None
    return entry.signal, entry.moment, kind, held.bits if kind else held


@pytest.mark.filterwarnings("ignore:The probe of")
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("node", [neuron.ParametricLIFNode, partial(neuron.NoisyLIFNode, 0.1)])
@pytest.mark.parametrize("change", CHANGES)
def test_the_short_ways_keep_what_the_long_way_keeps(change, node, samples, tmp_path, monkeypatch):
    short = seen(node, CHANGES[change], tmp_path / "short", samples=samples)
    monkeypatch.setattr(stepping, "short_way", lambda *given, **options: None)
    long = seen(node, CHANGES[change], tmp_path / "long", samples=samples)
    assert short[1:] == long[1:]
    assert [frame.nbytes for frame in short[0]] == [frame.nbytes for frame in long[0]]
    for frame, other in zip(short[0], long[0], strict=True):
        for entry, same in zip(frame.entries, other.entries, strict=True):
            *one, values = plain(entry)
            *two, expected = plain(same)
            assert one == two
            torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True)
    assert all(entry.seen is None for frame in long[0] for entry in frame.entries)
    packs = isinstance(node, type)  # noise goes no short way through a neuron, which so does not vouch for its bits
    for entry in (entry for frame in short[0][1:3] for entry in frame.entries):
        assert (entry.seen is not None) == (packs or entry.signal != "spike"), "this is not what the test is about"


def train(net, steps, scale=1.0, batch=3):
    for _ in range(steps):
        net(scale * torch.rand(4, batch, 2, 6, 6)).square().sum().backward()
        functional.reset_net(net)


def numbers(frames):
    return [entry.values for frame in frames for entry in frame.entries if entry.room is not None]


def test_memory_of_a_step_that_went_is_used_again_unless_somebody_holds_it(tmp_path):
    net = make(neuron.LIFNode)
    with monitor.flight_recorder(net, keep=3, on=(), to=tmp_path, report=False) as recorder:
        train(net, 7)  # the first of them go the long way
        ring = recorder.ring
        before = {held.data_ptr() for held in numbers([*ring.frames, ring.open])}
        train(net, 6)
        assert {held.data_ptr() for held in numbers([*ring.frames, ring.open])} == before
        for hold in (ring.snapshot, ring.lent):
            held = numbers(hold())
            copies = [each.clone() for each in held]
            assert len(held) >= 8
            train(net, 6, scale=2.0)
            assert all(map(torch.equal, held, copies)), hold.__name__


def test_what_is_to_be_used_again_counts_in_the_budget(tmp_path, monkeypatch):
    net = make(neuron.LIFNode)
    options = {"keep": 3, "on": (), "to": tmp_path, "report": False, "samples": 3}
    with monitor.flight_recorder(net, **options) as recorder:
        train(net, 5)
        step = recorder.ring.open.nbytes
    held, wrong = [], []  # an error in a probe would only end it
    keep = Ring.keep

    def kept(ring, *given, **options):
        keep(ring, *given, **options)
        spare = sum(held.nbytes for rooms in ring._spare.values() for _, held, _ in rooms)
        held.append(ring.nbytes + spare)
        wrong.extend([ring._spare_bytes] * (ring._spare_bytes != spare))

    monkeypatch.setattr(Ring, "keep", kept)
    for budget in (2 * step, int(2.5 * step), int(3.4 * step)):
        with monitor.flight_recorder(net, budget=budget, **options):
            train(net, 6)
            train(net, 2, batch=2)  # whose values find no room of their size
        assert 0.8 * budget < max(held) <= budget
        assert not wrong
        held.clear()


def test_no_more_than_one_step_waits_to_be_used_again(tmp_path):
    net = make(neuron.LIFNode)
    with monitor.flight_recorder(net, keep=3, on=(), to=tmp_path, report=False, samples=3) as recorder:
        for batch in (3, 2) * 4:  # where it changes, none has the shapes of the one that goes
            train(net, 4, batch=batch)
            assert recorder.ring._spare_bytes <= max(
                held.nbytes for held in (*recorder.ring.frames, recorder.ring.open)
            )


def test_a_step_that_is_judged_late_is_judged_by_its_own_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(Late, "there", property(lambda held: False))
    net = make(neuron.LIFNode)
    with monitor.flight_recorder(net, keep=2, on="nonfinite", to=tmp_path, report=False) as recorder:
        train(net, 3)
        net[2].weight.data[0, 0, 0, 0] = torch.inf
        train(net, 1)
        net[2].weight.data[0, 0, 0, 0] = 0.0
        train(net, 4)
    assert [(held.step, held.layer) for held in recorder.triggers] == [(3, "3")]
