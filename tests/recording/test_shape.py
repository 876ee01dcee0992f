"""The shape in which recordings are read: axes, slices, blocks and events, against the tensors they are made of."""

import pickle

import numpy as np
import pytest
import torch

from spikescope.recording import Events, events_of, in_memory
from spikescope.spikes import PackedSpikes


def spikes(*shape, seed=0, rate=0.3):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


RUNS = [spikes(7, 3, 4, 5), spikes(2, 1, 4, 5, seed=1), spikes(9, 3, 4, 5, seed=2)]


@pytest.fixture(params=["whole", "in parts", "potentials"])
def signal(request):
    if request.param == "potentials":
        return in_memory({"conv": {"v": RUNS}})["conv"]["v"]
    runs = RUNS if request.param == "whole" else [list(run.split(2)) for run in RUNS]
    return in_memory({"conv": {"spike": runs}})["conv"]["spike"]


def test_axes_have_names_and_runs_their_lengths(signal):
    assert signal.dims == ("run", "step", "sample", "channel", "x")
    assert (signal.neuron_shape, signal.dtype, signal.neurons) == ((4, 5), torch.float32, None)
    assert [tuple(run) for run in signal.runs] == [(0, 7, 3), (1, 2, 1), (2, 9, 3)]
    assert len(signal) == 3
    assert signal.packed is (signal.name == "spike")


@pytest.mark.parametrize("step", [None, 4, -1, slice(1, 6), slice(None, None, 3), slice(5, 2)], ids=str)
@pytest.mark.parametrize("sample", [None, 2, slice(1, None)], ids=str)
@pytest.mark.parametrize("neuron", [None, 7, slice(2, 18, 5), [19, 0, 0], np.arange(20) % 3 == 0, []], ids=str)
def test_a_cut_is_that_of_the_tensor(signal, step, sample, neuron):
    def kept(key, size):
        return slice(None) if key is None else [key % size] if isinstance(key, int) else key

    for index, run in ((0, RUNS[0]), (2, RUNS[2])):
        wanted = run[kept(step, len(run))][:, kept(sample, 3)]
        if neuron is not None:
            wanted = wanted.flatten(2)[:, :, torch.arange(20)[kept(neuron, 20)]]
        assert torch.equal(signal.read(index, step, sample, neuron), wanted)


def test_a_run_is_sliced_as_its_tensor(signal):
    run, dense = signal[2], RUNS[2]
    assert run.shape == dense.shape
    for key in [3, slice(2, 5), (0, 1), (slice(None), 0, 3), (slice(1, 8, 2), slice(0, 2), 1, slice(2, 4)), (..., 2)]:
        assert torch.equal(run[key], dense[key]), key
    assert torch.equal(signal[-1][4], dense[4])
    assert torch.equal(signal[2, 4, 1], dense[4, 1])
    flat = in_memory({"fc": {"spike": [spikes(6, 2, 9)]}})["fc"]["spike"]
    for key in [(slice(None), 0, 3), (2, 1, slice(3, 8)), (slice(None), slice(None), 4), (1, 0, -1)]:
        assert torch.equal(flat[0][key], spikes(6, 2, 9)[key]), key


def test_blocks_come_in_the_order_of_run_and_time(signal):
    for chosen in (None, slice(1, None), [2], 0):
        blocks = list(signal.blocks(run=chosen, step=slice(1, 8)))
        assert [block.run for block in blocks] == sorted(block.run for block in blocks)
        for index in {block.run for block in blocks}:
            parts = [block for block in blocks if block.run == index]
            assert [part.step for part in parts] == sorted(part.step for part in parts)
            assert parts[0].step == 1
            dense = [part.values.dense() if signal.packed else part.values for part in parts]
            assert torch.equal(torch.cat(dense), RUNS[index][1:8])
    assert all(isinstance(block.values, PackedSpikes) is signal.packed for block in signal.blocks())


def expected(runs, run, sample, neuron, step):
    rows = [
        (r, n, f, t)
        for r in run
        for t, n, f in (runs[r].flatten(2) != 0).nonzero().tolist()
        if n in sample and f in neuron and t in step
    ]
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, 4).T


def test_events_are_the_places_of_the_spikes_in_order(signal):
    found = signal.events()
    assert np.array_equal(np.stack(found[:4]), expected(RUNS, range(3), range(3), range(20), range(9)))
    assert (found.neuron_shape, found.runs) == ((4, 5), ((7, 3), (2, 1), (9, 3)))
    part = signal.events(run=[0, 2], step=slice(2, 6), sample=slice(1, 3))
    assert np.array_equal(np.stack(part[:4]), expected(RUNS, (0, 2), (1, 2), range(20), range(2, 6)))
    assert part.runs == ((6, 3), (0, 0), (6, 3))
    for step, sample in (
        (slice(1, None, 2), None),
        (slice(None, None, 3), slice(0, 3, 2)),
        (4, 2),
        (None, slice(2, 2)),
    ):
        part = signal.events(run=[0, 2], step=step, sample=sample)
        steps, samples = (
            range(9)[slice(key, key + 1) if isinstance(key, int) else key or slice(None)] for key in (step, sample)
        )
        assert np.array_equal(np.stack(part[:4]), expected(RUNS, (0, 2), samples, range(20), steps))
        if samples:
            assert part.looked[2] == (steps, range(3)[samples.start : samples.stop : samples.step])
        for block in signal.blocks(run=2, step=step, sample=sample):
            there = RUNS[2][block.step : block.step + len(block.values)]
            held = block.values.dense() if signal.packed else block.values
            assert torch.equal(held, there[:, block.sample : block.sample + held.shape[1]])
    *_, runs = part
    assert len(part) == 6
    again = pickle.loads(pickle.dumps(part))
    assert (again.looked, again.runs, type(again)) == (part.looked, runs, type(part))
    fewer = part._replace(**{name: getattr(part, name)[:0] for name in ("run", "sample", "neuron", "step")})
    assert (len(fewer.step), fewer.looked) == (0, part.looked)
    chosen = signal.events(run=0, neuron=[4, 9])
    assert set(chosen.neuron.tolist()) <= {0, 1}
    assert chosen.neuron_shape == (2,)


def test_events_of_steps_that_lie_apart_are_found_in_whole_pieces(signal, monkeypatch):
    part = {"step": slice(1, None, 2), "sample": slice(0, None, 2)}
    wanted = events_of(signal.blocks(**part))
    monkeypatch.setattr("spikescope.recording.signal._apart", None)  # a block for each value would take long
    found = signal.events(**part)
    assert all(np.array_equal(a, b) for a, b in zip(found[:4], wanted[:4], strict=True))
    assert found[4:] == wanted[4:]


def test_events_of_tensors_and_of_bits_are_the_same():
    for held in (RUNS[0], PackedSpikes.from_dense(RUNS[0]), PackedSpikes.from_dense(RUNS[0], order="time")):
        found = events_of(held)
        assert isinstance(found, Events)
        assert np.array_equal(np.stack(found[:4]), expected(RUNS, [0], range(3), range(20), range(7)))
    nothing = events_of(torch.zeros(3, 2, 0))
    assert (len(nothing.run), nothing.neuron_shape, nothing.runs) == (0, (0,), ((3, 2),))


def test_what_is_not_there_is_said_in_words(signal):
    rec = in_memory({"conv": {signal.name: RUNS}})
    with pytest.raises(KeyError, match=r"'convv' was not recorded; there is 'conv'\. Did you mean conv"):
        rec["convv"]
    with pytest.raises(KeyError, match="'conv' has no signal 'w'; there is "):
        rec["conv"]["w"]
    for read, words in [
        (lambda: signal.read(run=3), "has no run 3 of .*; there are 3, 0 to 2"),
        (lambda: signal[-4], "has no run -1"),
        (lambda: signal.read(0, step=7), "There is no step 7; there are 7"),
        (lambda: signal.read(0, sample=-4), "There is no sample -4; there are 3"),
        (lambda: signal.read(0, neuron=[20]), "There is no neuron 20; there are 20"),
        (lambda: signal.read(0, neuron=np.ones(3, dtype=bool)), "A mask of 3 elements does not fit 20 neurons"),
    ]:
        with pytest.raises(IndexError, match=words):
            read()
    for read, words in [
        (lambda: signal["0"], "cut in runs one at a time"),
        (lambda: signal.read(0, step=[1, 2]), "step is a number or a slice"),
        (lambda: signal.read(0, neuron=[0.5]), "whole indices or a mask"),
    ]:
        with pytest.raises(TypeError, match=words):
            read()
    with pytest.raises(ValueError, match="forwards in time"):
        signal.read(0, step=slice(None, None, -1))


def test_a_number_in_the_place_of_a_layer_is_told_where_the_runs_are():
    held = in_memory({"1": {"spike": RUNS}})
    with pytest.raises(KeyError, match=r"Layers are named by text, and 0 is none; .*recording\['1'\]\['spike'\]\[0\]"):
        held[0]
    assert 0 not in held


def test_steps_that_are_lost_are_told_and_the_others_given():
    whole = in_memory({"fc": {"spike": [list(spikes(6, 1, 3).split(2))]}})["fc"]["spike"]
    del whole._pieces[1], whole._first[1]
    with pytest.raises(ValueError, match="The steps 2 to 4 of run 0 of 'spike' of 'fc' are lost"):
        whole.read(0)
    assert torch.equal(whole.read(0, step=slice(4, 6)), spikes(6, 1, 3)[4:])
    assert torch.equal(whole.read(0, step=slice(0, 2)), spikes(6, 1, 3)[:2])


def test_neurons_of_several_shapes_have_no_common_axes():
    mixed = in_memory({"conv": {"v": [torch.zeros(2, 1, 3), torch.zeros(2, 1, 4)]}})["conv"]["v"]
    with pytest.raises(ValueError, match=r"several shapes, \[3\] and \[4\]"):
        mixed.dims  # noqa: B018  # the access is what is tested
    assert mixed.read(1).shape == (2, 1, 4)
    assert "neurons [3] or [4]" in repr(mixed)


@pytest.mark.parametrize("run", [0.5, "a", None, [0]])
def test_a_run_that_is_no_number_is_refused_in_words(signal, run):
    with pytest.raises(TypeError, match="read gives one run, by its number, but got"):
        signal.read(run)


@pytest.mark.parametrize("run", [0.5, "a", ["b"], [0, 1.5]])
def test_runs_that_are_no_numbers_are_refused_in_words(signal, run):
    with pytest.raises(TypeError, match="run is a number, a slice or several numbers, but got"):
        next(signal.blocks(run))
