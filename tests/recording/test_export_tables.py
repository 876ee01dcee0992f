"""Tables and arrays: pandas, Parquet, xarray with and without dask, Zarr."""

import json
import sys

import numpy as np
import pytest
import torch
from export_cases import DT, account, made_of, recording, tensors, together

from spikescope.errors import MissingExtraError

pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")
xarray = pytest.importorskip("xarray")
pytest.importorskip("dask")
pytest.importorskip("zarr")


def rows(frame, layer):
    held = frame[frame["layer"] == layer]
    return sorted(map(tuple, held[["run", "sample", "step", "neuron"]].to_numpy().tolist()))


@pytest.mark.parametrize("neurons", [None, (1, 4, 5)])
def test_each_spike_is_a_row(neurons, tmp_path):
    made = recording(neurons=neurons)
    frame = made.to_pandas(signals="spike")
    assert list(frame) == ["run", "sample", "step", "layer", "neuron"]
    for layer in ("net.conv", "head"):
        assert rows(frame, layer) == account(layer, neurons if layer == "net.conv" else None)
    assert list(frame["layer"].cat.categories) == ["net.conv", "head"]
    assert frame.attrs["dt"] == DT
    assert frame.attrs["layers"]["net.conv"] == {
        "shape": [2, 3] if neurons is None else [3],
        "neurons": None if neurons is None else list(neurons),
        "runs": [[0, 5, 2], [2, 5, 3]],
    }


def test_parquet_is_the_same_table(tmp_path):
    made = recording()
    path = made.to_parquet(tmp_path / "events.parquet", signals="spike")
    read = pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, made.to_pandas(signals="spike"), check_categorical=True)
    about = json.loads(pq.read_schema(path).metadata[b"spikescope"])
    assert about == made.to_pandas(signals="spike").attrs


def test_parquet_in_several_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.recording.export.formats.parquet.ROWS", 7)
    made = recording()
    path = made.to_parquet(tmp_path / "events.parquet", signals="spike")
    assert pq.ParquetFile(path).num_row_groups > 3
    pd.testing.assert_frame_equal(pd.read_parquet(path), made.to_pandas(signals="spike"))


def test_a_recording_without_a_spike_is_a_table_without_rows(tmp_path):
    made = recording(silent=True)
    frame = made.to_pandas(signals="spike")
    assert (len(frame), list(frame)) == (0, ["run", "sample", "step", "layer", "neuron"])
    path = made.to_parquet(tmp_path / "e.parquet", signals="spike")
    assert list(pd.read_parquet(path)) == list(frame)


def expected(layer, name):
    return np.concatenate([held.swapaxes(0, 1).numpy() for held in tensors()[layer, name].values()])


@pytest.mark.parametrize("chunks", [None, {}, {"step": 2}, {"trial": 4, "step": 3}, "auto", 2])
def test_every_value_is_in_its_place(chunks):
    made = recording()
    held = made.to_xarray(chunks=chunks)
    assert (held["head"].chunks is None) == (chunks is None)
    for layer, name, label in (("net.conv", "spike", "net.conv"), ("head", "spike", "head"), ("head", "v", "head.v")):
        assert held[label].dtype == (np.float32 if name == "v" else bool)
        np.testing.assert_array_equal(held[label].values, expected(layer, name))
    assert held["net.conv"].dims == ("trial", "step", "net.conv[0]", "net.conv[1]")
    assert held["run"].values.tolist() == [0, 0, 2, 2, 2]
    assert held["sample"].values.tolist() == [0, 1, 0, 1, 2]
    assert held["label"].values.tolist() == [7, 3, 1, 1, 5]
    assert held["part"].values.tolist() == ["", "", "test", "test", "test"]
    np.testing.assert_allclose(held["time"].values, (np.arange(5) + 0.5) * DT)


def test_pieces_need_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(MissingExtraError, match=r"dask\.array.*spikescope\[arrays\]"):
        recording().to_xarray(chunks={})


def test_a_part_is_read_where_it_is_looked_at(monkeypatch):
    made = recording()
    signal, read = made["net.conv"]["spike"], []
    plain = signal.read
    monkeypatch.setattr(signal, "read", lambda **key: read.append(key) or plain(**key))
    held = made.to_xarray(chunks={"step": 2})["net.conv"]
    assert read == []
    part = held[3, 4, 1, 2].values
    assert part == expected("net.conv", "spike")[3, 4, 1, 2]
    assert len(read) == 1
    assert (read[0]["run"], read[0]["step"]) == (2, slice(4, 5, None))


def test_chosen_neurons_have_their_number():
    made = recording(neurons=(1, 4, 5))
    held = made.to_xarray(layers="net.conv")
    assert held["net.conv"].dims == ("trial", "step", "net.conv[neuron]")
    assert held["net.conv[neuron]"].values.tolist() == [1, 4, 5]
    whole = recording().to_xarray(layers="net.conv")["net.conv"].values.reshape(5, 5, 6)
    np.testing.assert_array_equal(held["net.conv"].values, whole[..., [1, 4, 5]])


def test_runs_of_unlike_lengths_are_no_array(tmp_path):
    made = recording(steps=(5, 3))
    with pytest.raises(ValueError, match="to_xarray: an array has one number of steps, but there are runs of 3, 5"):
        made.to_xarray()
    with pytest.raises(ValueError, match="Choose runs of one length with runs="):
        made.to_zarr(tmp_path / "z")
    assert list(tmp_path.iterdir()) == []
    assert made.to_xarray(runs=2)["head"].shape == (3, 3, 4)


@pytest.mark.parametrize("size", [1 << 22, 60])
def test_zarr_opens_in_xarray(size, tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.recording.export.formats.zarr.CHUNK", size)
    made = recording()
    held = xarray.open_zarr(made.to_zarr(tmp_path / "run.zarr"), consolidated=False)
    xarray.testing.assert_equal(held.load(), made.to_xarray())
    assert held.attrs["dt"] == DT


def test_a_dataset_is_saved_as_netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    from spikescope.recording.export import registry

    made = recording()
    path = registry["xarray"].export(made, tmp_path / "run.nc", overwrite=False)
    with xarray.open_dataset(path, engine="h5netcdf") as held:
        xarray.testing.assert_equal(held, made.to_xarray())


def test_a_layer_may_be_called_like_an_axis():
    made = together(
        [made_of("step", "spike", {0: torch.ones(2, 2, 3)}), made_of("label", "spike", {0: torch.ones(2, 2, 3)})]
    )
    held = made.to_xarray()
    assert set(held.data_vars) == {"step.spike", "label.spike"}
    assert held["label"].values.tolist() == [7, 3]
