"""Exports of what a network did step by step, recorded to disk of chosen neurons: they tell what it gave out."""

import pickle

import pytest
import torch

import spikescope
from spikescope import functional, monitor, neuron
from spikescope.recording.export import registry
from spikescope.recording.export.base import FileFormat

CHOSEN = (5, 1, 9)


@pytest.fixture
def ran(tmp_path):
    """A recording on disk, and (run, sample, step, neuron) of each spike of the chosen neurons."""
    net = torch.nn.Sequential(neuron.LIFNode(tau=1.5, v_threshold=0.3))
    drawn, spikes = torch.Generator().manual_seed(0), []
    subset = monitor.Subset(neurons=list(CHOSEN))
    with monitor.record(net, "spike", to=tmp_path / "run.spk", dt=1e-3, subset=subset):
        for run, n in enumerate((2, 3)):
            for step in range(7):
                y = net(torch.rand(n, 3, 4, generator=drawn))
                spikes += [(run, *found) for found in _places(y, step) if found[2] in CHOSEN]
            functional.reset_net(net)
    assert len(spikes) > 20
    return spikescope.open_recording(tmp_path / "run.spk"), sorted(spikes)


def _places(y, step):
    return [(sample, step, flat) for sample, flat in y.flatten(1).nonzero().tolist()]


def test_a_table_has_the_numbers_of_the_neurons_in_their_layer(ran):
    pytest.importorskip("pandas")
    recording, spikes = ran
    frame = recording.to_pandas()
    assert sorted(map(tuple, frame[["run", "sample", "step", "neuron"]].to_numpy().tolist())) == spikes


def test_pieces_go_to_other_processes(ran):
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    recording, spikes = ran
    held = pickle.loads(pickle.dumps(recording.to_xarray(chunks={"step": 3})))["0"]
    assert held["0[neuron]"].values.tolist() == list(CHOSEN)
    found = [
        (int(held["run"][trial]), int(held["sample"][trial]), int(step), CHOSEN[place])
        for trial, step, place in zip(*held.values.nonzero(), strict=True)
    ]
    assert sorted(found) == spikes


def test_a_format_that_numbers_chosen_neurons_anew_says_so(ran):
    pytest.importorskip("nir")
    recording, spikes = ran
    with pytest.warns(UserWarning, match="of 0 some neurons were recorded: they are numbered from 0"):
        data = recording.to_nirdata().nodes["0"].observables["spikes"]
    assert data.n_neurons == 3
    assert (data.idx >= 0).sum() == len(spikes)


def test_sonata_keeps_their_numbers_and_says_that_the_others_look_silent(ran, tmp_path):
    h5py = pytest.importorskip("h5py")
    recording, spikes = ran
    with pytest.warns(UserWarning, match="the others look silent"):
        path = recording.to_sonata(tmp_path / "out")
    with h5py.File(path / "run1_sample2" / "spikes.h5") as file:
        found = sorted(file["spikes/0/node_ids"][:].tolist())
    assert found == sorted(n for run, sample, _, n in spikes if (run, sample) == (1, 2))


@pytest.mark.parametrize("name", sorted(registry))
@pytest.mark.parametrize(
    "time",
    [slice(3, 7), slice(0, None, 2), lambda step: step > 2, slice(0, 4)],
    ids=["from the third", "every second", "by a function", "the first"],
)
def test_steps_whose_time_nobody_knows_have_no_seconds(tmp_path, name, time):
    for package in registry[name].packages:
        pytest.importorskip(package)
    net = torch.nn.Sequential(neuron.IFNode(step_mode="m"))
    with monitor.record(net, "spike", to=tmp_path / "run.spk", dt=1e-3, subset=monitor.Subset(time=time)):
        net(torch.ones(8, 2, 3))
    recording, known = spikescope.open_recording(tmp_path / "run.spk"), time == slice(0, 4)
    words = str(recording.overview().text(rows=None))
    assert ("those of time=" in words) is not known
    assert " at 0x" not in words
    export = getattr(recording, f"to_{name}")
    arguments = [tmp_path / f"out{registry[name].suffixes[0] if registry[name].suffixes else ''}"]
    arguments = arguments if isinstance(registry[name], FileFormat) else []
    if known:
        assert export(*arguments) is not None
    elif registry[name].seconds:
        with pytest.raises(ValueError, match=f"to_{name}: .* holds chosen steps alone .time=.*, one after the other"):
            export(*arguments)
    else:
        with pytest.warns(UserWarning, match=r"holds chosen steps alone \(time=.*, and has no seconds"):
            made = export(*arguments)
        assert name != "xarray" or "time" not in made.coords
