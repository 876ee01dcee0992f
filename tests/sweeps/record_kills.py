"""Writers killed at random moments: `python tests/sweeps/record_kills.py 1000` (`make kills`).

A process records a network, and tells after each call how many values it has on disk; it gets SIGKILL at a random
moment. Then the recording opens without damage, says whose it was and that this one is gone, and has all values that
were on disk by its own words, each as it was.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from spikescope import monitor, neuron
from spikescope.recording import open_recording

NEURONS, STEPS = 40, 3
CALLS, LONGEST = 80, 0.02
"""Calls at most, and seconds at most after them, until the kill."""


def pattern(run: int) -> torch.Tensor:
    """The input of a run, and, at a threshold of 1, its spikes."""
    bits = (torch.arange(STEPS * NEURONS) * (run + 1) % 7 == 0).float()
    return bits.view(STEPS, 1, NEURONS)


def record(folder: Path, told: int, sync_every: float | str | None) -> None:
    """Record runs until the end."""
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with torch.no_grad(), monitor.record(net, "spike", to=folder, budget=200, sync_every=sync_every) as stream:
        for run in range(10**9):
            net(pattern(run))
            net[0].reset()
            stream.note(label=run)
            if run % 17 == 16:
                stream.flush()
            os.write(told, stream.on_disk.to_bytes(4, "little"))


def kill(folder: Path, rng: random.Random) -> tuple[int, int]:
    """Kill one writer; how many values it had on disk by its own words, and how many there are."""
    read, write = os.pipe()
    sync_every = rng.choice((None, 0.005, "100 B"))
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            record(folder, write, sync_every)
        finally:
            os._exit(1)
    os.close(write)
    told, calls = b"", rng.randrange(1, CALLS)
    while len(told) < 4 * calls:
        told += os.read(read, 4 * calls - len(told))
    time.sleep(rng.random() * LONGEST)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while part := os.read(read, 1 << 16):
        told = (told + part)[-4 - len(told + part) % 4 :]
    os.close(read)
    acknowledged = int.from_bytes(told[: len(told) // 4 * 4][-4:], "little")
    rec = open_recording(folder)
    assert not rec.damage, rec.damage
    assert rec.writer is not None
    assert (rec.writer.process, rec.writer.alive) == (child, False)
    spikes = rec["0"]["spike"]
    assert len(spikes) >= acknowledged, f"{acknowledged} were on disk, {len(spikes)} are there"
    for number, run in enumerate(spikes.runs):
        assert run.index == number
        assert torch.equal(spikes.read(number), pattern(number)), f"run {number} is another"
    assert all(note == {"run": note["run"], "label": note["run"]} for note in rec.notes)
    assert {run.index for run in spikes.runs} <= {note["run"] for note in rec.notes} | {len(spikes) - 1}
    return acknowledged, len(spikes)


def sweep(count: int, seed: int = 0) -> Counter:
    """So many kills; how many values were on disk, and how many were there beyond those."""
    torch.set_num_threads(1)
    rng, sums = random.Random(seed), Counter()
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    net(pattern(0))  # the kernel is there before the processes fork
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            folder = Path(place) / f"{number}.spk"
            try:
                acknowledged, there = kill(folder, rng)
            except Exception as error:
                raise AssertionError(f"kill {number} of seed {seed}: {error}") from error
            sums.update(kills=1, acknowledged=acknowledged, there=there, began=acknowledged > 0)
            shutil.rmtree(folder)
    return sums


if __name__ == "__main__":
    for what, number in sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 1000).items():
        print(f"{what:14}{number:10,}")
