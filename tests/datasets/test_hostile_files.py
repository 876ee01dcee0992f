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
from spikescope.datasets.formats import load_numpy
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


@pytest.mark.parametrize("read", [load_numpy, load_npz_frames, load_wave])
def test_a_pipe_is_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(datasets.FormatError, match="is no file"):
        read(tmp_path / "a.npz")


def test_an_error_of_the_system_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_numpy(tmp_path / "none.npz")
    full = Path("/dev/full")
    with pytest.raises(OSError, match=r"No space left.*a\.zip"), damage_told("a.zip", "an archive"):
        full.write_bytes(b"x" * (1 << 20))
