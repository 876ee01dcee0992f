"""Recordings under damage: `python tests/sweeps/recording_damage.py 10000` (`make damage`).

Bytes of any file of a small recording change, go or come, or a file goes. Whatever is done, it is told: when the
recording is opened, in `recording.damage`, or where the value is read, by a ValueError that names the file; all else
reads as it was written.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch
from record_damage import damaged

from spikescope.recording import Moment, Writer, open_recording
from spikescope.spikes import PackedSpikes

HEAD = {"dt": 0.5, "layers": {"a": {"type": "IFNode", "signals": ["spike"]}}}
LAYERS = {"a": "spike", "b": "v"}
RUNS = 4


def spikes(run: int, neurons: int) -> torch.Tensor:
    """What was recorded of a run."""
    return (torch.rand(6, 2, neurons, generator=torch.Generator().manual_seed(run)) < 0.4).float()


def write(folder: Path, neurons: int = 40, fill: int = 2000, runs: int = RUNS) -> None:
    """A recording of two signals in several files."""
    writer = Writer(folder, HEAD, fill=fill)
    for run in range(runs):
        held, moment = spikes(run, neurons), Moment("a", 0, run, 0, 6, 2)
        writer.keep("spike", PackedSpikes.from_dense(held), moment)
        writer.keep("v", held + 0.5, moment._replace(name="b"))
        writer.note(run, {"label": [run, 9]})
    writer.close()


def outcome(folder: Path, harmed: str, neurons: int = 40, runs: int = RUNS, rest: bool = True) -> str:
    """How the damage of a file is told; an AssertionError where something else was given.

    - `rest`: read what `damaged="skip"` leaves as well.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            rec = open_recording(folder)
        except ValueError as error:
            _check_words(error, str(folder))
            return "refused"
    opening = "told at opening" if rec.damage else ""
    assert bool(caught) == bool(rec.damage)
    assert not rec.damage or any(harmed in words or "are missing" in words for words in rec.damage), rec.damage
    if not rec.damage:
        assert rec.head == {**HEAD, "files": len(list(folder.glob("*.records")))}
        assert rec.notes == [{"run": run, "label": [run, 9]} for run in range(runs)]
    reading = ""
    for name, layer in rec.items():
        for label, signal in layer.items():
            assert LAYERS[name] == label
            for run in signal.runs:
                try:
                    found = signal.read(run.index)
                except ValueError as error:
                    _check_words(error, harmed)
                    reading = "told at reading"
                    continue
                wanted = spikes(run.index, neurons) + (0.5 if label == "v" else 0)
                assert torch.equal(found, wanted), f"run {run.index} of {name} is another"
    if reading and rest:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            left = open_recording(folder, damaged="skip")
        assert left.damage
        for layer in left.values():
            for signal in layer.values():
                assert all(signal.read(run.index).numel() for run in signal.runs)
    return " and ".join(filter(None, (opening, reading))) or "as it was"


def _check_words(error: ValueError, wanted: str) -> None:
    assert wanted in str(error), error


def sweep(count: int, seed: int = 0) -> Counter:
    """So many damages, and how each was told."""
    rng, ends = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as place:
        whole, folder = Path(place) / "whole.spk", Path(place) / "run.spk"
        write(whole)
        assert outcome(whole, "") == "as it was"
        names = sorted(path.name for path in whole.iterdir())
        assert len(names) > 3
        for number in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            name = rng.choice(names)
            before = (folder / name).read_bytes()
            after = damaged(before, rng)
            (folder / name).write_bytes(after)
            if rng.random() < 0.02:
                (folder / name).unlink()
            try:
                end = outcome(folder, name)
                assert end != "as it was" or after == before, "nobody was told"
            except Exception as error:
                raise AssertionError(f"damage {number} of seed {seed}, {name}: {error}") from error
            ends["recording.json" if name == "recording.json" else "segment", end] += 1
    return ends


if __name__ == "__main__":
    for (kind, end), number in sorted(sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000).items()):
        print(f"{kind:14}  {end:34}  {number:6}")
