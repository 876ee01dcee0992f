"""The counts of a kernel, added up over many runs."""

import functools
import itertools

import pytest
import torch

from spikescope import monitor, neuron
from spikescope.errors import ShapeError
from spikescope.monitor.reduce import Count, Rate, SilentShare, SynOps, tally
from spikescope.monitor.reduce.tally import Tally, counts_of, counts_told
from spikescope.surrogate import PiecewiseQuadratic


def added(parts):
    total = Tally()
    for count, steps, samples in parts:
        total.add(count, steps, samples)
    return total


@pytest.mark.parametrize(("steps", "samples"), [(1, 1), (5, 51), (5, 52), (4, 64), (255, 3), (4, 200), (0, 3), (3, 0)])
def test_bytes_do_not_overflow(steps, samples):
    x = torch.ones(steps, samples, 3)
    found = added([(x.sum(0, dtype=torch.uint8), steps, samples)]).counts
    expected = counts_of(x)
    assert found.spikes.tolist() == expected.spikes.tolist()
    assert (found.seen, found.samples) == (expected.seen, expected.samples)


def test_wide_counts_of_long_runs():
    found = added([(torch.tensor([[300, 1], [2**30, 0]], dtype=torch.int32), 2**30, 2)]).counts
    assert found.spikes.tolist() == [2.0**30 + 300, 1.0]


def test_more_spikes_than_four_bytes_hold(monkeypatch):
    monkeypatch.setattr(tally, "LIMIT", 600)
    total, counts = Tally(), torch.tensor([[255, 1], [255, 0]], dtype=torch.uint8)
    widths = []
    for _ in range(3):
        total.add(counts, 255, 2)
        widths.append(total.nbytes)
    assert widths == [8, 16, 16]
    assert total.counts.spikes.tolist() == [1530.0, 3.0]


def test_nothing_and_neurons_of_another_shape():
    total = Tally()
    assert total.empty
    assert total.counts is None
    assert total.nbytes == 0
    assert total.fits(torch.zeros(2, 4))
    total.add(torch.zeros(2, 3, dtype=torch.uint8), 1, 2)
    assert not total.empty
    assert total.fits(torch.zeros(5, 3))
    assert not total.fits(torch.zeros(2, 4))


@pytest.mark.parametrize("reducer", [Count("layer"), Count("channel"), Rate("layer"), SynOps(10)], ids=repr)
def test_neurons_of_another_shape_in_another_run(reducer):
    node, whole = neuron.IFNode(step_mode="m"), []
    with monitor.record(node, reducer) as recording:
        for size in (4, 6, 4):
            node.reset()
            whole.append(reducer.close(reducer.measure(node(torch.rand(5, 2, 3, size)))))
    expected = reducer.result(functools.reduce(lambda a, b: reducer.merge(a, b, "batch"), whole))
    found = recording[""]
    assert torch.equal(found, expected) if torch.is_tensor(found) else found == expected


def test_counts_of_each_neuron_refuse_others():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, "rate") as recording:
        node(torch.ones(2, 1, 3))
        node.reset()
        with pytest.warns(RuntimeWarning, match="summaries of other shapes"):
            node(torch.ones(2, 1, 4))
        with pytest.raises(ShapeError, match="summaries of other shapes"):
            recording.rows()
        assert recording.never_fired == ()


def test_operations_of_a_recording_are_per_sample_over_chunks_and_runs():
    node = neuron.IFNode(step_mode="m")
    x = torch.full((6, 2, 3), 0.5)
    with monitor.record(node, {"work": SynOps(10), "count": Count()}) as recording:
        for _ in range(2):
            node.reset()
            node(x[:4])
            node(x[4:])
    assert recording[""]["count"].tolist() == [12, 12, 12]  # 3 spikes of 2 samples in 2 runs
    assert recording[""]["work"] == (360.0, 90.0)


def test_an_error_of_a_reducer_comes_up_at_the_first_run():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, SynOps(torch.ones(4))) as recording:
        with pytest.warns(RuntimeWarning, match="does not broadcast to the neurons"):
            node(torch.ones(2, 1, 3))
        with pytest.raises(ShapeError):
            recording.rows()
        assert recording.never_fired == ("",)


@pytest.mark.parametrize("first", [0, 1, 2, 6])
def test_the_samples_of_a_run_count_once_however_it_is_cut(first):
    node, x = neuron.IFNode(step_mode="m"), torch.ones(6, 2, 3)
    with monitor.record(node, SynOps(10)) as recording:
        for _ in range(2):
            node.reset()
            node(x[:first])
            node(x[first:])
    assert recording[""] == (720.0, 180.0)


@pytest.mark.parametrize("spiking", list(itertools.product([True, False], repeat=3)), ids=str)
def test_the_samples_of_a_run_that_is_counted_and_measured_in_turns(spiking):
    surrogate = PiecewiseQuadratic()
    node = neuron.IFNode(step_mode="m", surrogate_function=surrogate)
    with monitor.record(node, SynOps(10)) as recording:
        for _ in range(2):
            node.reset()
            for held in spiking:
                node.surrogate_function.spiking = held
                node(torch.full((2, 2, 3), 50.0))  # so far above the threshold that the primitive is 1, a spike
    assert recording[""] == (720.0, 180.0)


def test_a_step_without_samples_is_refused_in_words():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, "rate") as recording:
        with pytest.warns(RuntimeWarning, match="Add the time axis"):
            node(torch.ones(3))
        with pytest.raises(ShapeError, match="Add the time axis"):
            recording.rows()


def test_a_reducer_that_reads_taps_in_a_way_of_its_own(monkeypatch):
    seen = []

    def tapped(self, taps, x, start):
        seen.append(sorted(taps))
        return Count.counted(self, counts_told(taps["count"], len(x)))

    monkeypatch.setattr(Count, "tapped", tapped, raising=False)
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, "count") as recording:
        node(torch.ones(2, 1, 3))
    assert seen == [["count"]]
    assert recording[""].tolist() == [2, 2, 2]


def test_what_is_read_is_not_changed_by_later_runs():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, "count") as recording:
        node(torch.ones(2, 1, 3))
        first = recording[""]
        summary = recording._tracks[""].summary(next(iter(recording._tracks[""].totals)))
        node(torch.ones(2, 1, 3))
    assert first.tolist() == [2, 2, 2]
    assert summary.spikes.tolist() == [2.0, 2.0, 2.0]


def test_two_recordings_of_one_neuron_ask_for_taps_of_their_own():
    node, x = neuron.IFNode(step_mode="m"), torch.rand(4, 2, 5)
    with monitor.record(node, "rate") as rate, monitor.record(node, ["packed", "rate"]) as both:
        y = node(x)
        assert set(node.tapped) == {"count", "packed"}
        both.close()
        node.reset()
        node(x)
        assert set(node.tapped) == {"count"}
    assert torch.equal(rate[""], y.mean((0, 1)).double())
    assert torch.equal(both[""]["packed"].dense(), y)
    assert torch.equal(both[""]["rate"], rate[""])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("signal", "reducers", "missing"),
    [("spike", "rate", "count"), ("h", ["min max", "moments"], "range"), ("h", ["min max", "moments"], "h")],
)
def test_a_tap_that_was_not_told_ends_the_recording_in_words(compiled, signal, reducers, missing):
    def forget(module, args, out):
        module.tapped = {name: held for name, held in module.tapped.items() if name != missing}

    node = neuron.IFNode(step_mode="m")
    net = torch.nn.Sequential(node)
    run = torch.compile(net, backend="eager", fullgraph=True) if compiled else net
    with monitor.record(net, reducers, signal=signal) as recording:
        node.register_forward_hook(forget)
        with pytest.warns(RuntimeWarning, match=f"did not tell '{missing}'"):
            run(torch.ones(2, 1, 3))
        with pytest.raises(ValueError, match=f"did not tell '{missing}'"):
            recording.rows()


def test_signed_spikes_that_cancel_out_are_no_silence():
    x = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    reducer = SilentShare()
    assert reducer.result(reducer.measure(x)) == 0.5


@pytest.mark.parametrize("held", [[1, 2], True, {"a": 1}, torch.ones(2)], ids=repr)
def test_a_module_may_have_an_attribute_of_the_name_tapped(held):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3))
    net[0].tapped = held
    with monitor.record(net, "min max", where=torch.nn.Linear, signal="output") as recording:
        net(torch.ones(2, 3))
    assert net[0].tapped is held
    assert list(recording) == ["0"]


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 1, 4, 6), (1, 5, 4, 6), (3, 5, 1, 1)])
@pytest.mark.parametrize("compiled", [True, False], ids=["kernel", "without a compiler"])
def test_counts_add_up_in_whatever_order_they_lie(shape, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(tally, "adder_of", lambda *given: None)
    own = torch.Generator().manual_seed(2)
    x_seq = (torch.rand(4, *shape, generator=own) < 0.5).float()
    count = x_seq.sum(0).to(torch.uint8)
    total = Tally()
    last = count.to(memory_format=torch.channels_last)
    for held in (count, last, count.transpose(2, 3).contiguous().transpose(2, 3), last):
        total.add(held, 4, len(held))
        assert total.add_alike(held) is (total._adder is not None)
        if total._adder is None:
            total.add(held, 4, len(held))
    assert torch.equal(total.counts.spikes, 8 * counts_of(x_seq).spikes)


def test_a_kernel_adds_counts_up_where_there_is_one():
    total, count = Tally(), torch.ones(2, 3, dtype=torch.uint8)
    total.add(count, 4, 2)
    assert total.add_alike(count)
    for other in (torch.ones(2, 6, dtype=torch.uint8)[:, ::2], torch.ones(2, 3, dtype=torch.int32)):
        total.add(other, 4, 2)
        assert not total.add_alike(other)
    assert total.counts.spikes.tolist() == [8.0, 8.0, 8.0]
