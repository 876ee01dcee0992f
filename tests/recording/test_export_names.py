"""Names of layers, signals and notes that formats cannot tell apart are refused in words."""

import importlib
import re

import pytest
import torch

from spikescope.recording import in_memory
from spikescope.recording.export.base import FileFormat, registry


def spikes(seed):
    return [(torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(seed)) < 0.4).float()]


def potentials(seed):
    return [torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(seed))]


ALIKE = {
    "a signal and a module": {"a": {"v": potentials(0)}, "a.v": {"spike": spikes(1)}},
    "slashes": {"a/b": {"spike": spikes(0)}, "a|b": {"spike": spikes(1)}},
    "colons": {"a:b": {"spike": spikes(0)}, "a/b": {"v": potentials(1), "spike": spikes(1)}},
    "the network": {"": {"spike": spikes(0)}, "(network)": {"spike": spikes(1)}},
    "a table": {"trials": {"spike": spikes(0)}, "b": {"spike": spikes(1)}},
    "other cases": {"A": {"spike": spikes(0)}, "a": {"spike": spikes(1)}},
    "a spike behind a reserved name": {"trial": {"spike": spikes(0)}, "trial.spike": {"spike": spikes(1)}},
    "of any script": {"\u5c42 1": {"spike": spikes(0)}, 'x,"y"': {"spike": spikes(1)}},
}


def exported(name, recording, place, **chosen):
    held = registry[name]
    for package in (*held.packages, *held.saving):
        pytest.importorskip(package)
    path = place / f"out{held.suffixes[0] if held.suffixes else ''}"
    return path, getattr(recording, f"to_{name}")(*([path] if isinstance(held, FileFormat) else []), **chosen)


def layers_in(name, path, made):
    """How many signals there are, as the library of the format reads them."""
    if name == "pandas":
        return made["layer"].nunique()
    if name == "parquet":
        return importlib.import_module("pyarrow.parquet").read_table(path).to_pandas()["layer"].nunique()
    if name == "xarray":
        return len(made.data_vars)
    if name == "zarr":
        group = importlib.import_module("zarr").open_group(path, mode="r")
        return sum(array.ndim > 2 for _, array in group.arrays())
    if name == "nirdata":
        return sum(len(node.observables) for node in made.nodes.values())
    if name == "pynapple":
        return len([held for held in path.glob("*.npz") if held.stem != "trials"]) + (
            0 if (path / "trials.npz").is_file() else -1
        )
    if name == "neo":
        return len({str(train.annotations["layer"]) for train in made.segments[0].spiketrains}) + len(
            made.segments[0].analogsignals
        )
    if name == "sonata":
        held, h5py = 0, importlib.import_module("h5py")
        for place in (path / "run0_sample0").iterdir():
            with h5py.File(place) as file:
                held += sum(len(file[key]) for key in ("spikes", "report") if key in file)
        return held
    if name == "nwb":
        with importlib.import_module("h5py").File(path) as file:
            layers = {held.decode() if isinstance(held, bytes) else held for held in file["units/layer"][:]}
            return len(layers) + len(file["acquisition"])
    return None


@pytest.mark.parametrize("name", sorted(registry))
@pytest.mark.parametrize("case", ALIKE)
def test_every_signal_is_there_or_the_export_is_refused_in_words(case, name, tmp_path):
    layers = ALIKE[case]
    recording, held = in_memory(layers, dt=1e-3), registry[name]
    chosen = [signal for signals in layers.values() for signal in signals if signal == "spike" or held.values]
    kind = {} if held.values else {"signals": "spike"}
    words = ""
    try:
        path, made = exported(name, recording, tmp_path, **kind)
    except ValueError as error:
        words = str(error)
    if words:
        assert re.match(rf"to_{name}: .* would both be called", words)
        assert case not in ("other cases", "of any script")
        assert not any(tmp_path.iterdir())
    else:
        assert layers_in(name, path, made) in (None, len(chosen))


@pytest.mark.parametrize("name", ["nwb", "pynapple", "xarray", "zarr"])
@pytest.mark.parametrize("notes", [("trial", "note_trial"), ("label", "note_label"), ("start_time", "note_start_time")])
def test_notes_of_one_name_are_refused_in_words(name, notes, tmp_path):
    recording = in_memory({"a": {"spike": spikes(0)}}, 1e-3, [{"run": 0, notes[0]: [3, 1], notes[1]: [5, 2]}])
    taken = {"nwb": ("start_time",), "pynapple": ()}.get(name, ("trial",))
    if notes[0] in taken:
        with pytest.raises(ValueError, match=f"to_{name}: the note .* would both be called 'note_{notes[0]}'"):
            exported(name, recording, tmp_path)
    else:
        exported(name, recording, tmp_path)


NOTED = {
    "a note and a renamed layer": ({"a": {"spike": spikes(0)}}, {"a": [3, 1], "a.spike": [4, 4]}),
    "a note and two layers": ({"a": {"spike": spikes(0)}, "a.spike": {"spike": spikes(1)}}, {"a": [3, 1]}),
    "a note and a layer": ({"a": {"spike": spikes(0)}}, {"a": [3, 1]}),
    "slashes": ({"a": {"spike": spikes(0)}}, {"a/b": [3, 1], "a|b": [5, 2]}),
}


@pytest.mark.parametrize("case", NOTED)
@pytest.mark.parametrize("name", ["xarray", "zarr"])
def test_names_are_held_against_each_other_as_they_come_out(name, case, tmp_path):
    layers, notes = NOTED[case]
    recording = in_memory(layers, 1e-3, [{"run": 0, **notes}])
    if case in ("a note and a renamed layer", "a note and two layers") or (name, case) == ("zarr", "slashes"):
        with pytest.raises(ValueError, match=rf"to_{name}: .* would both be called"):
            exported(name, recording, tmp_path)
        assert not any(tmp_path.iterdir())
        return
    path, made = exported(name, recording, tmp_path)
    assert layers_in(name, path, made) == len(layers)
    held = made if name == "xarray" else importlib.import_module("zarr").open_group(path, mode="r")
    assert all(list(held[note][:]) == values for note, values in notes.items())


OWN = ["id", "name", "description", "colnames", "neurodata_type", "namespace", "object_id", "tags", "timeseries"]
OWN += ["columns", "copy", "fields", "parent", "tags_index", "timeseries_index"]


@pytest.mark.parametrize("note", [*OWN, "start_time", "stop_time", "label", "a_index", "a/b"])
def test_every_note_can_be_read_from_the_table_of_trials(note, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    path, _ = exported("nwb", in_memory({"a": {"spike": spikes(0)}}, 1e-3, [{"run": 0, note: [3, 1]}]), tmp_path)
    with pynwb.NWBHDF5IO(path, "r") as file:
        table = file.read().trials
        read, column = table.to_dataframe(), table.colnames[-1]
        assert list(read[column]) == [3, 1]
        assert list(read.index) == [0, 1]
        assert list(read["sample"]) == [0, 1]
    kept = note in ("label", "a_index", "a/b")
    assert column == (note.replace("/", "|") if kept else f"note_{note}")
