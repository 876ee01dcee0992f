"""Formats of neuroscience, read back by the programs that read them: NWB, Neo, pynapple, NIRData, SONATA."""

import warnings

import numpy as np
import pytest
import torch
from export_cases import DT, STEPS, TRIALS, account, made_of, recording, spikes, tensors, together

import spikescope


def line(layer, number, **what):
    """Seconds of the spikes of each neuron of a layer, on the line on which trials follow each other."""
    start = {(run, sample): before for run, sample, before in TRIALS}
    found = {neuron: [] for neuron in range(number)}
    for run, sample, step, neuron in account(layer, **what):
        found[neuron].append((start[run, sample] + step + 0.5) * DT)
    return found


SIZES = {"net.conv": 6, "head": 4}


@pytest.fixture
def nwb(tmp_path):
    pynwb = pytest.importorskip("pynwb")

    def read(made, **options):
        path = made.to_nwb(tmp_path / "run.nwb", **options)
        return path, pynwb

    return read


def test_nwb_holds_units_trials_and_series(nwb):
    made = recording()
    path, pynwb = nwb(made)
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        units = file.units
        assert units.resolution == DT
        assert len(units) == 10
        table = [(units["layer"][i], int(units["neuron"][i])) for i in range(10)]
        assert table == [("net.conv", i) for i in range(6)] + [("head", i) for i in range(4)]
        for i, (layer, neuron) in enumerate(table):
            np.testing.assert_allclose(units["spike_times"][i], line(layer, SIZES[layer])[neuron])
            np.testing.assert_allclose(units["obs_intervals"][i], [[0, 5 * STEPS * DT]])
        shown = file.trials.to_dataframe()
        assert shown[["run", "sample"]].to_numpy().tolist() == [list(held[:2]) for held in TRIALS]
        np.testing.assert_allclose(shown["start_time"], [held[2] * DT for held in TRIALS])
        np.testing.assert_allclose(shown["stop_time"], [(held[2] + STEPS) * DT for held in TRIALS])
        assert shown["label"].tolist() == [7, 3, 1, 1, 5]
        assert shown["part"].tolist() == ["", "", *["test"] * 3]
        series = file.acquisition["head.v"]
        wanted = np.concatenate([held.swapaxes(0, 1).flatten(0, 1) for held in tensors()["head", "v"].values()])
        np.testing.assert_array_equal(series.data[:], wanted)
        assert (series.rate, series.starting_time) == (1 / DT, DT / 2)


def test_nwb_is_valid_and_found_without_fault(nwb):
    inspector = pytest.importorskip("nwbinspector")
    path, pynwb = nwb(recording(dt=1e-3), session={"session_description": "Digits shown to a network.", "lab": "ours"})
    assert pynwb.validate(path=path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the inspector's own imports
        found = list(inspector.inspect_nwbfile(nwbfile_path=path))
    kinds = {held.check_function_name for held in found if "SUGGESTION" not in held.importance.name}
    assert kinds == {"check_subject_exists"}  # a network has no species; who needs a subject gives it in session=


def test_nwb_of_many_neurons_is_compressed_and_valid(nwb):
    spikes = torch.zeros(4, 1, 10_000)
    spikes[1, 0, ::2] = spikes[3, 0, 7] = 1
    path, pynwb = nwb(together([made_of("wide", "spike", {0: spikes})], dt=1e-3, notes=[]))
    assert pynwb.validate(path=path) == []
    with pynwb.NWBHDF5IO(path, "r") as io:
        units = io.read().units
        assert units["spike_times_index"].data.compression == "gzip"
        for neuron, times in ((0, [0.0015]), (7, [0.0035]), (9_998, [0.0015]), (9_999, [])):
            np.testing.assert_allclose(units["spike_times"][neuron], times)


def test_what_was_not_recorded_is_not_observed(nwb):
    path, pynwb = nwb(recording(head=(2,)))
    with pynwb.NWBHDF5IO(path, "r") as io:
        units = io.read().units
        np.testing.assert_allclose(units["obs_intervals"][0], [[0, 5 * STEPS * DT]])
        np.testing.assert_allclose(units["obs_intervals"][9], [[2 * STEPS * DT, 5 * STEPS * DT]])
        assert all(times >= 2 * STEPS * DT for times in units["spike_times"][9])


def test_a_series_with_a_gap_has_timestamps(nwb):
    path, pynwb = nwb(recording(head_steps={0: 3}))
    with pynwb.NWBHDF5IO(path, "r") as io:
        series = io.read().acquisition["head.v"]
        steps = [*range(3), *range(5, 8), *range(10, 25)]
        np.testing.assert_allclose(series.timestamps[:], (np.array(steps) + 0.5) * DT)
        np.testing.assert_array_equal(series.data[3:6], tensors(head_steps={0: 3})["head", "v"][0][:, 1])


def test_neo_keeps_flat_arrays_until_a_train_is_looked_at():
    pytest.importorskip("neo")
    made = recording()
    block = made.to_neo()
    assert len(block.segments) == 5
    for segment, (run, sample, _) in zip(block.segments, TRIALS, strict=True):
        assert segment.spiketrains._items is None
        label = {(0, 0): 7, (0, 1): 3, (2, 0): 1, (2, 1): 1, (2, 2): 5}[run, sample]
        told = {"run": run, "sample": sample, "label": label} | ({"part": "test"} if run else {})
        assert segment.annotations == told
        assert len(segment.spiketrains) == 10
        for train in segment.spiketrains:
            layer, neuron = train.annotations["layer"], train.annotations["neuron"]
            held = [t for r, s, t, n in account(layer) if (r, s, n) == (run, sample, neuron)]
            np.testing.assert_allclose(train.magnitude, (np.array(held) + 0.5) * DT)
            assert float(train.t_stop) == pytest.approx(STEPS * DT)
        (signal,) = segment.analogsignals
        np.testing.assert_array_equal(signal.magnitude, tensors()["head", "v"][run][:, sample])
        assert signal.array_annotations["neuron"].tolist() == [0, 1, 2, 3]


def test_elephant_takes_the_trains():
    statistics = pytest.importorskip("elephant.statistics")
    made = recording()
    train = made.to_neo(runs=0, signals="spike").segments[1].spiketrains[7]
    held = tensors()["head", "spike"][0][:, 1, 1]
    assert float(statistics.mean_firing_rate(train)) == pytest.approx(float(held.mean()) / DT)


def test_a_block_is_saved_by_neo(tmp_path):
    neo = pytest.importorskip("neo")
    made = recording()
    path = spikescope.recording.export.registry["neo"].export(made, tmp_path / "run.pkl", overwrite=False)
    block = neo.io.PickleIO(str(path)).read_block()
    assert [len(held.spiketrains) for held in block.segments] == [10] * 5


def test_pynapple_finds_the_right_rates(tmp_path):
    nap = pytest.importorskip("pynapple")
    made = recording()
    path = made.to_pynapple(tmp_path / "run")
    assert sorted(held.name for held in path.iterdir()) == ["head.npz", "head.v.npz", "net.conv.npz", "trials.npz"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it shortens trials which touch by a microsecond
        marks = nap.load_file(path / "trials.npz")
    assert marks["run"].tolist() == [0, 0, 2, 2, 2]
    assert marks["sample"].tolist() == [0, 1, 0, 1, 2]
    assert marks["label"].tolist() == [7, 3, 1, 1, 5]
    for layer, number in SIZES.items():
        group = nap.load_file(path / f"{layer}.npz")
        assert list(group.keys()) == list(range(number))
        for neuron, times in line(layer, number).items():
            np.testing.assert_allclose(group[neuron].times(), times, atol=1e-9)
            assert group["rate"][neuron] == pytest.approx(len(times) / (5 * STEPS * DT))
    values = nap.load_file(path / "head.v.npz")
    np.testing.assert_array_equal(values.values[5:10], tensors()["head", "v"][0][:, 1])
    one = nap.load_file(path / "head.npz").restrict(marks[3])
    assert sum(len(one[i]) for i in one) == int(tensors()["head", "spike"][2][:, 1].sum())


def test_nirdata_gives_back_the_grid(tmp_path):
    nir = pytest.importorskip("nir")
    made = recording()
    data = made.to_nirdata()
    spikes, v = data.nodes["head"].observables["spikes"], data.nodes["head"].observables["v"]
    wanted = np.concatenate([held.swapaxes(0, 1) for held in tensors()["head", "spike"].values()])
    np.testing.assert_array_equal(spikes.to_time_gridded(DT).data, wanted)
    np.testing.assert_array_equal(v.data, np.concatenate([h.swapaxes(0, 1) for h in tensors()["head", "v"].values()]))
    assert data.nodes["net.conv"].observables["spikes"].n_neurons == 6
    path = spikescope.recording.export.registry["nirdata"].export(made, tmp_path / "run.h5", overwrite=False)
    read = nir.read_data(path).nodes["net.conv"].observables["spikes"]
    np.testing.assert_array_equal(read.idx, data.nodes["net.conv"].observables["spikes"].idx)


@pytest.mark.parametrize("dt", [1e-3, 0.07, 1 / 3, 1e-4])
def test_no_step_of_nirdata_is_lost_to_rounding(dt):
    nir = pytest.importorskip("nir")
    from spikescope.recording.export.formats.nirdata import _end

    lost = [steps for steps in range(1, 5001) if int(steps * dt / dt) != steps]
    assert lost or dt != 1e-3  # 34 of them
    for steps in [*lost, 1, 5000]:
        index, time = np.zeros((1, steps), int), (np.arange(steps) + 0.5)[None] * dt
        assert nir.EventData(index, time, 1, _end(steps, dt)).to_time_gridded(dt).data.sum() == steps


def test_nirdata_fits_the_graph_of_the_network():
    pytest.importorskip("nir")
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), spikescope.neuron.LIFNode())
    graph = spikescope.exchange.to_nir(net, (3,), dt=DT)
    made = together([made_of("1", "spike", {0: torch.ones(2, 1, 4)})])
    made.to_nirdata().check_nodes(graph)


def test_sonata_has_a_folder_for_each_trial(tmp_path):
    libsonata = pytest.importorskip("libsonata")
    made = recording()
    path = made.to_sonata(tmp_path / "out")
    nodes = libsonata.NodeStorage(path / "nodes.h5")
    assert {name: nodes.open_population(name).size for name in nodes.population_names} == {"net.conv": 6, "head": 4}
    for run, sample, _ in TRIALS:
        place = path / f"run{run}_sample{sample}"
        reader = libsonata.SpikeReader(place / "spikes.h5")
        assert set(reader.get_population_names()) == {"net.conv", "head"}
        for layer in ("net.conv", "head"):
            held = [(n, (t + 0.5) * DT * 1e3) for r, s, t, n in account(layer) if (r, s) == (run, sample)]
            found = reader[layer].get()
            assert reader[layer].sorting == "by_time"
            np.testing.assert_allclose(sorted(found), sorted(held))
        report = libsonata.SomaReportReader(place / "v_report.h5")["head"]
        assert report.times == pytest.approx((0.0, STEPS * DT * 1e3, DT * 1e3))
        np.testing.assert_allclose(report.get().data, tensors()["head", "v"][run][:, sample])


def test_sonata_has_nodes_for_the_neurons_of_every_signal_of_a_layer(tmp_path):
    h5py = pytest.importorskip("h5py")
    few = made_of("head", "spike", {0: spikes(5, 4, 2, 9)}, neurons=(1, 3))
    more = made_of("head", "v", {0: torch.rand(4, 2, 9)}, neurons=(0, 8))
    with pytest.warns(UserWarning, match="look silent"):
        together([few, more], notes=[]).to_sonata(tmp_path / "out")
    with h5py.File(tmp_path / "out" / "nodes.h5") as file:
        assert len(file["nodes/head/node_type_id"]) == 9
