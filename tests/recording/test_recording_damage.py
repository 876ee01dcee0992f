"""Damaged recordings, and writers that were killed: what is not as it was written is told, and all else is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spikescope.recording import open_recording

SWEEPS = Path(__file__).parents[1] / "sweeps"
sys.path.insert(0, str(SWEEPS))
import recording_damage  # noqa: E402  # from the folder of sweeps

sys.path.pop(0)


def test_damages_of_a_recording_are_told_and_all_else_reads_as_it_was():
    ends = recording_damage.sweep(150)
    assert sum(ends.values()) == 150
    assert {end for _, end in ends} >= {"told at opening", "told at reading"}


def test_every_flipped_bit_of_a_recording_is_told(tmp_path):
    folder = tmp_path / "run.spk"
    recording_damage.write(folder, neurons=5, fill=1 << 20, runs=1)
    size = 0
    for path in sorted(folder.iterdir()):
        held = path.read_bytes()
        size += len(held)
        for place in range(8 * len(held)):
            flipped = bytearray(held)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert recording_damage.outcome(folder, path.name, 5, 1, rest=False) != "as it was", (path.name, place)
        path.write_bytes(held)
    assert 600 < size < 4000
    assert recording_damage.outcome(folder, "", 5, 1) == "as it was"


def test_a_file_that_is_missing_is_told(tmp_path):
    folder = tmp_path / "run.spk"
    recording_damage.write(folder)
    paths = sorted(folder.glob("*.records"))
    for path in (paths[0], paths[-1]):
        held = path.read_bytes()
        path.unlink()
        with pytest.warns(RuntimeWarning, match=f"those with the numbers {int(path.name[:8])} are missing"):
            open_recording(folder)
        path.write_bytes(held)
    (folder / "recording.json").unlink()
    with pytest.warns(RuntimeWarning, match=r"recording\.json is missing"):
        rec = open_recording(folder)
    assert (rec.head, list(rec)) == ({}, ["a", "b"])


def test_writers_killed_at_random_moments_lose_nothing_that_they_said_was_on_disk():
    command = [sys.executable, SWEEPS / "record_kills.py", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"kills +50\b", done.stdout)
    assert int(re.search(r"began +(\d+)", done.stdout)[1]) > 5
