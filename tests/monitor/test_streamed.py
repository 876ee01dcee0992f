"""`monitor.record(net, ..., to=path)`: what is on disk against what a live recording keeps of the same runs."""

import traceback

import numpy as np
import pytest
import torch
from torch import nn

import fresh
from monitor_cases import sequence, spiking_net
from spikescope import functional, layer, monitor, neuron, open_recording, surrogate
from spikescope.files import OutputError
from spikescope.monitor import Subset, every, first, record
from spikescope.spikes import PackedSpikes

RUNS = 3


def run(net, x, runs=RUNS, before=None, after=None):
    for number in range(runs):
        if before is not None:
            before(number)
        y = net(x + number * 0.1) if net[0].step_mode == "m" else torch.stack([net(step + number * 0.1) for step in x])
        y.sum().backward()
        if after is not None:
            after(number)
        functional.reset_net(net)


def whole(signal):
    return torch.cat([signal.read(run.index) for run in signal.runs], 1)


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("signal", ["spike", "v", "h", "current", "output", "input", "grad_output", "grad_input"])
def test_each_signal_is_what_a_live_recording_keeps(tmp_path, signal, step_mode):
    net, x = spiking_net(step_mode), sequence()
    with record(net, signal, to=tmp_path / "run.spk") as stream, record(net, "raw", signal=signal) as live:
        run(net, x)
    assert (stream.errors, stream.never_fired) == ({}, ())
    rec = open_recording(tmp_path / "run.spk")
    assert list(rec) == ["1", "3"]
    for name in rec:
        held = rec[name][signal]
        assert held.packed is (signal == "spike")
        assert [tuple(one) for one in held.runs] == [(i, 4, 2) for i in range(RUNS)]
        assert torch.equal(whole(held), live[name])


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_several_signals_each_of_its_own_modules(tmp_path, step_mode):
    net, x = spiking_net(step_mode), sequence()
    wanted = {"spike": None, "output": layer.Linear, "attribute:v": "1", "attribute before:v_threshold": neuron.LIFNode}
    with record(net, wanted, to=tmp_path / "run.spk", dt=1e-3, seed=5):
        run(net, x)
    rec = open_recording(tmp_path / "run.spk")
    assert {name: list(held) for name, held in rec.items()} == {
        "0": ["output"],
        "1": ["spike", "attribute:v"],
        "2": ["output"],
        "3": ["spike", "attribute before:v_threshold"],
    }
    assert torch.equal(whole(rec["3"]["attribute before:v_threshold"]).unique(), torch.tensor([1.0]))
    assert rec["1"]["attribute:v"].runs[0].steps == (1 if step_mode == "m" else 4)
    assert (rec.dt, rec.head["seed"], rec.head["every"]) == (1e-3, 5, 1)
    assert rec["3"].kind == "LIFNode"
    assert (rec["3"].fields["tau"], rec["3"].fields["v_threshold"], rec["3"].fields["v_reset"]) == (2.0, 1.0, 0.0)
    assert rec.head["layers"]["3"]["shapes"] == {"spike": [3], "attribute before:v_threshold": []}
    assert set(rec.head["versions"]) == {"spikescope", "torch", "numpy", "python"}


def test_a_subset_of_neurons_samples_and_time(tmp_path):
    net, x = spiking_net(), sequence(T=6, N=4)
    subset = Subset(neurons=every(3, 1), samples=(3, 0), time=first(4))
    with record(net, "spike", to=tmp_path / "some.spk", subset=subset), record(net, "packed") as live:
        run(net, x)
    rec = open_recording(tmp_path / "some.spk")
    assert (rec["1"]["spike"].neurons, rec["3"]["spike"].neurons) == ((1, 4), (1,))
    assert rec["1"]["spike"].neuron_shape == (2,)
    assert rec.head["layers"]["1"]["shapes"] == {"spike": [7]}
    dense = live["1"].dense()
    for number in range(RUNS):
        wanted = dense[:4, 4 * number : 4 * number + 4][:, [3, 0]][:, :, [1, 4]]
        assert torch.equal(rec["1"]["spike"].read(number), wanted)


@pytest.mark.parametrize(
    "time", [slice(3, 8), slice(1, None, 3), lambda step: step in (0, 7)], ids=["slice", "every", "own"]
)
@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("backwards", ["each call", "at the end", "last call alone"])
def test_gradients_of_chosen_steps_are_those_of_these(tmp_path, backwards, step_mode, time):
    net, x = spiking_net(step_mode), sequence(T=5, N=2).requires_grad_()
    names = ["output", "grad_output"]
    with (
        record(net, names, "1", to=tmp_path / "whole.spk"),
        record(net, names, "1", to=tmp_path / "some.spk", subset=Subset(time=time)),
    ):
        for _ in range(2):
            functional.reset_net(net)
            losses = []
            for _ in range(2):
                y = net(x) if step_mode == "m" else functional.multi_step_forward(x, net)
                losses.append((y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum())
                if backwards != "at the end":
                    functional.detach_net(net)
                if backwards == "each call":
                    losses.pop().backward()
            if losses:
                (losses[-1] if backwards == "last call alone" else sum(losses)).backward()
    kept = Subset(time=time)
    for name in names:
        all_steps, some = (open_recording(tmp_path / f"{part}.spk")["1"][name] for part in ("whole", "some"))
        for run in range(2):
            assert torch.equal(some.read(run), kept.take(all_steps.read(run), range(10)))


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_one_run_in_two(tmp_path, step_mode):
    net, x = spiking_net(step_mode), sequence()
    with (
        record(net, ["spike", "grad_output"], to=tmp_path / "run.spk", every=2) as stream,
        record(net, "raw", every=2) as live,
        record(net, "raw", signal="grad_output", every=2) as gradients,
    ):
        run(net, x, 5, before=lambda number: stream.note(label=number))
    rec = open_recording(tmp_path / "run.spk")
    for name in rec:
        assert torch.equal(whole(rec[name]["spike"]), live[name])
        assert torch.equal(whole(rec[name]["grad_output"]), gradients[name])
    assert rec.notes == [{"run": 0, "label": 0}, {"run": 1, "label": 2}, {"run": 2, "label": 4}]


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_notes_belong_to_their_run_whether_said_before_or_after(tmp_path, when, step_mode):
    net, x = spiking_net(step_mode), sequence()
    with record(net, "spike", to=tmp_path / "run.spk") as stream:

        def note(number):
            stream.note(label=torch.tensor([number, 7]))
            stream.note(sample=[2 * number, 2 * number + 1], text="of the test")

        run(net, x, **{when: note})
    assert open_recording(tmp_path / "run.spk").notes == [
        {"run": i, "label": [i, 7], "sample": [2 * i, 2 * i + 1], "text": "of the test"} for i in range(RUNS)
    ]


def test_notes_of_chosen_samples_are_those_of_these(tmp_path):
    net, x = spiking_net(), sequence(N=4)
    with record(net, "spike", to=tmp_path / "run.spk", subset=Subset(samples=(3, 0))) as stream:
        kinds = {"label": torch.tensor, "listed": list, "array": np.array}
        told = {name: kind([5, 6, 7, 8]) for name, kind in kinds.items()}
        told["one hot"] = torch.eye(4, dtype=torch.int64)
        run(net, x, before=lambda number: stream.note(**told))
        with pytest.raises(TypeError, match="label is numbers, texts, or lists"):
            stream.note(label=object())
        with pytest.raises(ValueError, match="'run' is the name of the run itself"):
            stream.note(run=3)
    noted = {name: [8, 5] for name in kinds} | {"one hot": [[0, 0, 0, 1], [1, 0, 0, 0]]}
    assert open_recording(tmp_path / "run.spk").notes[0] == {"run": 0, **noted}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("samples", [slice(0, 1), [3], torch.tensor([True, False, False, True])], ids=str)
def test_notes_that_are_not_of_samples_are_kept_whole_and_warned_of(tmp_path, when, samples):
    net, x, chosen = spiking_net(), sequence(N=4), Subset(samples=samples)
    told = {"betas": [0.9, 0.999, 0.5], "confusion": np.eye(5), "label": torch.arange(4), "epoch": 3, "name": "abcd"}
    with (
        pytest.warns(RuntimeWarning, match=r"(betas has 3|confusion has 5) values, but run \d has 4 samples, of which"),
        record(net, "spike", to=tmp_path / "run.spk", subset=chosen, every=2) as stream,
    ):
        run(net, x, **{when: lambda number: stream.note(**told)})
    kept = {**told, "confusion": np.eye(5).tolist(), "label": chosen.take(torch.arange(4), None).tolist()}
    notes = open_recording(tmp_path / "run.spk").notes
    assert notes == [{"run": number, **kept} for number in range((RUNS + 1) // 2)]


def test_notes_of_a_run_that_failed_are_written(tmp_path):
    def fail():
        subset = Subset(samples=slice(1))
        with record(spiking_net(), "spike", to=tmp_path / "run.spk", subset=subset) as stream:
            stream.note(label=[1, 2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert open_recording(tmp_path / "run.spk").notes == [{"run": 0, "label": [1, 2]}]


@pytest.mark.parametrize("when", ["before", "after"])
def test_notes_of_another_number_than_the_samples_are_warned_of(tmp_path, when):
    net, x = spiking_net(), sequence()
    with (
        pytest.warns(RuntimeWarning, match="label has 3 values, but run 1 has 2 samples"),
        record(net, "spike", to=tmp_path / "run.spk") as stream,
    ):
        run(net, x, **{when: lambda number: stream.note(label=[number] * (3 if number == 1 else 2))})


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("batches", [2, 3])
def test_labels_of_two_batches_without_a_reset_ask_for_it(tmp_path, when, batches):
    net, x = spiking_net(), sequence()

    def batches_without_reset():
        with record(net, "spike", to=tmp_path / "run.spk") as stream:
            for number in range(batches):
                if when == "before":
                    stream.note(label=[number, 5])
                net(x)
                if when == "after":
                    stream.note(label=[number, 5])

    with pytest.warns(RuntimeWarning, match=r"reset_net\(net\) forgotten between two batches"):
        batches_without_reset()


def test_spikes_that_are_not_0_or_1_are_kept_as_numbers(tmp_path):
    net, x = nn.Sequential(neuron.ILIFNode(step_mode="m")), sequence() * 3
    with record(net, "spike", to=tmp_path / "run.spk"), record(net, "raw") as live:
        net(x)
    held = open_recording(tmp_path / "run.spk")["0"]["spike"]
    assert not held.packed
    assert torch.equal(held.read(0), live["0"])
    assert held.read(0).max() > 1


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_spikes_that_are_first_0_or_1_and_then_more_are_kept_as_numbers_from_there_on(tmp_path, step_mode):
    node = neuron.IFNode(v_reset=None, surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode=step_mode)
    net, outputs = nn.Sequential(node), []
    with record(net, "spike", to=tmp_path / "run.spk"):
        for level in (0.5, 0.5, 3.0, 0.5):
            x_seq = torch.full((4, 2, 3), level)
            outputs.append(torch.stack([net(x) for x in x_seq]) if step_mode == "s" else net(x_seq))
    recording = open_recording(tmp_path / "run.spk")
    signal, want = recording["0"]["spike"], torch.cat(outputs)
    assert not signal.packed
    assert torch.equal(signal.read(run=0), want)
    assert torch.equal(monitor.reduce(recording, "count")["0"], want.sum((0, 1)).long())
    if step_mode == "m":
        assert [type(block.values) for block in signal.blocks()] == [PackedSpikes, torch.Tensor]


def test_it_is_read_while_it_grows_and_after_a_flush(tmp_path):
    net, x = spiking_net(), sequence()
    with record(net, "spike", to=tmp_path / "run.spk") as stream:
        run(net, x, 1)
        rec = stream.open()
        assert len(rec["1"]["spike"]) == 1
        run(net, x, 2)
        assert (rec.refresh(), stream.on_disk) == (False, 2)
        stream.flush()
        assert (rec.refresh(), stream.on_disk, len(rec["1"]["spike"])) == (True, 6, 3)
    assert repr(stream) == f"Streamed({tmp_path / 'run.spk'}, 2 signals, 6 values, closed)"
    stream.close()


CHILD = """
import sys, torch
from spikescope import monitor, neuron
net = torch.nn.Sequential(neuron.IFNode(step_mode="m"))
recording = monitor.record(net, "spike", to=sys.argv[1])
net(torch.ones(3, 1, 2))
{last}
"""


@pytest.mark.parametrize("last", ["", "del recording", "raise SystemExit(3)"])
def test_nothing_is_lost_where_nobody_closes_it(tmp_path, last):
    fresh.run("-c", CHILD.format(last=last), tmp_path / "run.spk", check=not last.startswith("r"))
    rec = open_recording(tmp_path / "run.spk")
    assert rec.writer is None
    assert torch.equal(rec["0"]["spike"].read(0), torch.ones(3, 1, 2))


def test_a_full_disk_ends_the_recording_and_not_the_training(tmp_path, monkeypatch):
    net, x = spiking_net(), sequence()
    stream = record(net, "v", to=tmp_path / "run.spk", budget=200)
    run(net, x, 1)
    stream.flush()

    def full(*args):
        raise OutputError("the disk: no space left on device.")

    monkeypatch.setattr("spikescope.recording.disk.writer.write_chunk", full)
    with pytest.warns(
        RuntimeWarning, match=r"is off: OutputError: the disk: no space left on device\. 2 of \d+ values"
    ):
        run(net, x, 5)
    with pytest.raises(OutputError, match="flush\\(\\) tries again"):
        stream.close()
    kept = stream._writer.given
    monkeypatch.undo()
    with pytest.raises(OutputError, match="no space left on device"):  # what came after is told to be missing
        stream.close()
    rec = open_recording(tmp_path / "run.spk")
    assert rec.writer is None
    assert sum(len(held["v"]) for held in rec.values()) == kept


def test_an_error_of_a_probe_is_raised_when_it_closes_and_the_others_are_whole(tmp_path):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    net = nn.Sequential(neuron.IFNode(step_mode="m"), Pair())
    stream = record(net, "output", "*", to=tmp_path / "a.spk")
    with pytest.warns(RuntimeWarning, match="a signal is one tensor, but 'output' of '1' is tuple"):
        net(torch.ones(2, 1, 3))
    with pytest.raises(TypeError, match="a signal is one tensor"):
        stream.close()
    rec = open_recording(tmp_path / "a.spk")
    assert torch.equal(rec["0"]["output"].read(0), torch.ones(2, 1, 3))


def test_a_second_backward_pass_is_told_and_not_mixed_up(tmp_path):
    net, x = spiking_net(), sequence()
    stream = record(net, "grad_output", "1", to=tmp_path / "a.spk")
    y = net(x).sum()
    y.backward(retain_graph=True)
    with pytest.warns(RuntimeWarning, match="A backward pass came through steps that have their gradients already"):
        y.backward()
    with pytest.raises(ValueError, match="A backward pass"):
        stream.close()
    assert open_recording(tmp_path / "a.spk")["1"]["grad_output"].runs == [(0, 4, 2)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reducers": "rate"}, ValueError, "it streams signals, and 'rate' is not one; they are 'output'"),
        ({"reducers": "attribute:"}, ValueError, "'attribute:' is not one"),
        ({"reducers": "attribute:v_seq", "where": "3"}, ValueError, "'v_seq' grows with every single step"),
        ({"reducers": []}, ValueError, "got no signals"),
        ({"reducers": 3}, TypeError, "it takes names of signals"),
        ({"reducers": "v", "where": "0"}, TypeError, "The signal 'v' comes from"),
        ({"reducers": "v", "where": "7"}, LookupError, "record found no module with name '7'"),
        ({"signal": "v"}, ValueError, "with to= the signals stand in the second argument; give 'v' there"),
        ({"dt": 0}, ValueError, "dt is the seconds of a step, above 0"),
        ({"sync_every": "x"}, ValueError, "the limit must be a number of bytes"),
        ({"every": 0}, ValueError, "every must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_door(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        record(spiking_net("s"), to=tmp_path / "run.spk", **options)
    assert not (tmp_path / "run.spk").exists()


def test_who_asks_the_writer_for_what_was_recorded_is_sent_to_the_reader(tmp_path):
    with record(spiking_net("m"), "spike", to=tmp_path / "run.spk") as streamed:
        with pytest.raises(AttributeError, match=r"no 'to_pandas' .* spikescope.open_recording\('.*run.spk'\)"):
            streamed.to_pandas()
        with pytest.raises(AttributeError, match="milliseconds says what it takes") as asked:
            streamed.cost()
        assert "Did you mean" not in "".join(traceback.format_exception(asked.value))  # a guess of Python's own
        assert not hasattr(streamed, "_repr_html_")


def test_what_is_told_to_a_recording_on_disk_needs_one():
    for name, held in [("dt", 1e-3), ("sync_every", 3.0), ("seed", 1)]:
        with pytest.raises(ValueError, match=f"{name} is for a recording on disk; give to="):
            record(spiking_net(), "rate", **{name: held})


def test_compiled_code_is_recorded_too(tmp_path):
    net, x = spiking_net(), sequence()
    with record(net, "spike", to=tmp_path / "run.spk"), record(net, "packed") as live, torch.no_grad():
        torch.compile(net, backend="eager")(x)
    rec = open_recording(tmp_path / "run.spk")
    for name in rec:
        assert torch.equal(rec[name]["spike"].read(0), live[name].dense())


@pytest.mark.parametrize(
    ("time", "reducers", "told"),
    [(every(2), ["rate", "silent share"], False), (every(2), "isi cv", True), (first(4), "isi cv", False)],
)
def test_reducers_that_look_at_time_tell_of_chosen_steps(tmp_path, recwarn, time, reducers, told):
    net, x = spiking_net(), sequence(T=6)
    with record(net, "spike", to=tmp_path / "run.spk", subset=Subset(time=time)):
        run(net, x)
    assert monitor.reduce(tmp_path / "run.spk", reducers)["1"] is not None
    assert any("'isi cv' takes them for neighbours" in str(held.message) for held in recwarn) is told
