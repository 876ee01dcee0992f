"""Damaged recordings, and writers that were killed: what is not as it was written is told, and all else is there."""

import re
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

import fresh
from sample import WHOLE
from spikescope.recording import Moment, Writer, open_recording
from spikescope.recording.disk.head import write_head

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
        for place in range(0, 8 * len(held), 1 if WHOLE else 3):  # two bits of every byte, or three
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


def add(folder, name, seed=1, samples=2, neurons=4, start=0, steps=6):
    """A file of another recording, brought into a folder."""
    other = folder.with_name("other")
    with closing(Writer(other, {"layers": {}})) as writer:
        held = (torch.rand(steps, samples, neurons, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
        writer.keep("v", held, Moment("a", 0, 0, start, start + steps, samples))
    next(other.glob("*.records")).rename(folder / name)
    shutil.rmtree(other)


@pytest.mark.parametrize("name", ["00000001-77.records", "00000000-9.records"])
@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"start": 3},
        {"start": 2, "steps": 2},
        {"samples": 3},
        {"start": 6, "samples": 3},
        {"start": 6, "neurons": 5},
    ],
    ids=str,
)
def test_a_file_of_another_recording_is_told_and_its_steps_are_never_joined(name, strange, tmp_path):
    folder = tmp_path / "run.spk"
    folder.mkdir()
    add(folder, "00000000-17.records", seed=0)
    write_head(folder, {"layers": {}, "files": 1})
    assert open_recording(folder)["a"]["v"].read().shape == (6, 2, 4)
    add(folder, name, **strange)
    with pytest.warns(RuntimeWarning, match=f"those with the numbers {int(name[:8])} came from elsewhere"):
        found = open_recording(folder)["a"]["v"]
    for read in (found.read, lambda: found[0][:], lambda: list(found.blocks()), lambda: found.read(sample=0)):
        with pytest.raises(ValueError, match=r"run 0 of 'v' of 'a', .* do not go on from those up to 6, 2 samples"):
            read()
    if strange.get("start") == 6:  # what comes before is whole
        assert found.read(step=slice(6)).shape == (6, 2, 4)


@pytest.mark.parametrize(
    "head",
    [
        *({"layers": {"a": told}} for told in (5, None, [1])),
        *({"layers": {"a": {"signals": held}}} for held in (5, "v", [5], [[1]])),
        *({"layers": {"a": {"neurons": held}}} for held in (5, {"v": 5}, {"v": ["x"]}, {"v": [1e300]}, {"v": [-1]})),
        *({"layers": {"a": {"fields": held}}} for held in (5, [1])),
        *({"layers": held} for held in (7, "x", [])),
        *({"dt": held} for held in ("x", -1, 0, [1], True, 10**400)),
    ],
    ids=str,
)
def test_a_head_that_says_what_cannot_be_is_told_and_the_values_are_read(head, tmp_path):
    folder = tmp_path / "run.spk"
    folder.mkdir()
    add(folder, "00000000-17.records")
    write_head(folder, head)
    with pytest.warns(RuntimeWarning, match=r"recording\.json is damaged: it says of .* what cannot be"):
        rec = open_recording(folder)
    assert rec["a"]["v"].read().shape == (6, 2, 4)
    assert (rec.dt, rec.head, len(rec.damage)) == (None, {}, 1)
    assert "it says of" in repr(rec)


def test_a_head_that_names_other_neurons_than_there_are_is_told(tmp_path):
    folder = tmp_path / "run.spk"
    folder.mkdir()
    add(folder, "00000000-17.records")
    write_head(folder, {"layers": {"a": {"neurons": {"v": [0, 3]}}}})
    with pytest.warns(RuntimeWarning, match=r"names 2 neurons of 'v' of 'a', but the files hold 4\."):
        assert open_recording(folder)["a"]["v"].neurons is None


def test_a_file_that_cannot_be_opened_is_told_and_the_others_are_read(tmp_path):
    folder = tmp_path / "run.spk"
    folder.mkdir()
    add(folder, "00000000-17.records")
    (folder / "00000001-17.records").symlink_to("nowhere")
    write_head(folder, {"layers": {}})
    with pytest.warns(RuntimeWarning, match=r"No such file or directory: '.*00000001-17\.records'"):
        assert open_recording(folder)["a"]["v"].read().shape == (6, 2, 4)


def test_writers_killed_at_random_moments_lose_nothing_that_they_said_was_on_disk():
    program = f"import runpy; runpy.run_path({str(SWEEPS / 'record_kills.py')!r}, run_name='__main__')"
    done = fresh.run("-c", program, "50", check=True)
    assert re.search(r"kills +50\b", done.stdout)
    assert int(re.search(r"began +(\d+)", done.stdout)[1]) > 5
