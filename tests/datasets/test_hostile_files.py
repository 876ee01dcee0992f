"""Files cut off at every byte, or with bytes changed: words that name the file, or numbers; never another error."""

import io
import os
import random
import wave
from pathlib import Path

import numpy as np
import pytest
from recordings import recording, structured, tarred, zipped

from spikescope import datasets
from spikescope.datasets.faults import damage_told
from spikescope.datasets.folders.resources import extract_archive
from spikescope.datasets.folders.storage import load_npz_frames
from spikescope.datasets.formats import SpikesFile, load_numpy
from spikescope.datasets.speechcommands import load_wave


def saved(save, *values, **named):
    held = io.BytesIO()
    save(held, *values, **named)
    return held.getvalue()


def waveform():
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"abcd" * 4)
    return held.getvalue()


def packets():
    held = np.empty(2, object)
    held[:] = [[(1, 2, 3, 0)], [(2, 3, 4, 1)]]
    return saved(np.save, held, allow_pickle=True)


def unpack(path):
    extract_archive(path, path.with_name("unpacked"))


EVENTS = recording(12)
READ = {
    "a.npy": (saved(np.save, structured(EVENTS)), load_numpy),
    "a.npz": (saved(np.savez, frames=np.ones((2, 2, 3, 3))), load_npz_frames),
    "packets.npy": (packets(), datasets.Bullying10kClassification.load_origin_data),
    "a.wav": (waveform(), load_wave),
    "a.zip": (zipped({"a/b.txt": b"x" * 50}), unpack),
    "a.tar.gz": (tarred({"a/b.txt": b"x" * 50}), unpack),
}


def damaged(whole, number=150):
    """Every beginning of a file, and files in which a few bytes are others."""
    yield from (whole[:end] for end in range(len(whole)))
    drawn = random.Random(1)
    for _ in range(number):
        held = bytearray(whole)
        for _ in range(drawn.choice((1, 1, 2, 5))):
            held[drawn.randrange(len(held))] = drawn.choice((0, 255, drawn.randrange(256)))
        yield bytes(held)


@pytest.mark.filterwarnings("ignore")  # of NumPy, on headers that make no sense
@pytest.mark.parametrize("name", READ)
def test_damage_is_told_with_the_name_of_the_file(name, tmp_path):
    whole, read = READ[name]
    path, told = tmp_path / name, []
    for held in damaged(whole):
        path.write_bytes(held)
        try:
            read(path)
        except datasets.EventsError as error:
            told.append(str(error))
    # names of columns that are others are told without the file
    assert all(str(path) in said or "Events have the columns" in said for said in told)
    assert len(told) > len(whole) / 2


def test_a_count_that_no_memory_holds_is_told(tmp_path):
    header = saved(np.save, np.zeros(0)).replace(b"'shape': (0,), }" + b" " * 12, b"'shape': (1" + b"0" * 14 + b",), }")
    (tmp_path / "a.npy").write_bytes(header)
    with pytest.raises(datasets.FormatError, match=r"a\.npy cannot be read"):
        load_numpy(tmp_path / "a.npy")


def sound(path, **changed):
    """A file of spikes in which some data sets are others; None leaves one out."""
    h5py = pytest.importorskip("h5py")
    kind = h5py.vlen_dtype(np.float32)
    given = {"labels": np.arange(2)} | {f"spikes/{name}": {"shape": 2, "dtype": kind} for name in ("times", "units")}
    with h5py.File(path, "w") as file:
        for name, values in (given | changed).items():
            if isinstance(values, dict):
                file.create_dataset(name, **values)
            elif isinstance(values, str):
                file.create_group(name)
            elif values is not None:
                file[name] = values
    return path


def read_sound(path):
    held = SpikesFile(path)
    return [held[n] for n in range(len(held))]


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": {"shape": (1 << 40,), "dtype": "i8", "chunks": (1 << 20,)}},
        {"labels": np.array(5)},
        {"labels": np.ones((2, 2))},
        {"labels": "a group"},
        {"spikes/times": "a group"},
        {"spikes/times": {"shape": 2, "dtype": "S3"}},
        {"spikes": np.arange(2), "spikes/times": None, "spikes/units": None},
        {"spikes/units": None},
        {"spikes/times": np.ones((2, 3))},
    ],
    ids=str,
)
def test_a_file_of_sounds_that_holds_something_else_is_told(changed, tmp_path):
    pytest.importorskip("h5py")
    assert len(read_sound(sound(tmp_path / "whole.h5"))) == 2
    path = sound(tmp_path / "a.h5", **changed)
    with pytest.raises(datasets.FormatError, match=r"a\.h5"):
        read_sound(path)


def test_frames_of_what_is_no_real_number_are_told(tmp_path):
    for values in (np.array(["a"]), np.ones(3, complex), np.array(["2020"], "M8[Y]")):
        np.savez(tmp_path / "a.npz", frames=values)
        with pytest.raises(datasets.FormatError, match=r"a\.npz holds frames of"):
            load_npz_frames(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [load_numpy, load_npz_frames, load_wave, SpikesFile])
def test_a_pipe_is_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(datasets.FormatError, match="is not a file"):
        read(tmp_path / "a.npz")


def test_an_error_of_the_system_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_numpy(tmp_path / "none.npz")
    full = Path("/dev/full")
    with pytest.raises(OSError, match=r"No space left.*a\.zip"), damage_told("a.zip", "an archive"):
        full.write_bytes(b"x" * (1 << 20))
