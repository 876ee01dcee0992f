"""Trainings killed at random moments and taken up again: `python tests/sweeps/kill_training.py 200` (`make resumes`).

A training runs as a process of its own, gets SIGKILL after a random time, and is resumed, again and again until it is
done. Its last weights must be those of the training that was never killed, bit for bit. A kill before the first
checkpoint begins anew in the same folder, emptied.
"""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from safetensors.torch import load_file

OPTIONS = shlex.split(
    "--model spikescope.train:digits_network --data digits -T 2 --epochs 3 -b 128 --lr 4e-3 --save-every 2 --keep 2 "
    "--mixup-alpha 0.2 --model-ema --model-ema-steps 2 --threads 1 --device cpu --quiet"
)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """The command `spikescope train` in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "spikescope", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes], within: float | None) -> bool:
    """Whether it ends by itself within a time; else it is killed. RuntimeError with its words if it fails."""
    try:
        _, words = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {words.decode()}")
    return True


def one_training(place: Path, drawn: random.Random, longest: float, seen: Counter[str]) -> None:
    """One training, killed until it comes through; what happened is added to `seen`.

    A process that is killed before it writes anything has more time the next time: on a machine that has become
    slower, none would come further than to its start.
    """
    while True:
        before = _newest(place)
        begun = before is not None
        if not begun:
            shutil.rmtree(place, ignore_errors=True)
        process = start("--resume", str(place)) if begun else start(*OPTIONS, "--out", str(place))
        if finish(process, drawn.uniform(0, longest)):
            return
        after = _newest(place)
        longest *= 1.0 if after != before else 1.1
        seen["killed before" if after is None else "killed after a checkpoint"] += 1
        drafts = [entry.name for entry in place.glob(".*.safetensors*")] if place.exists() else []
        seen["killed while writing"] += bool(drafts)
        print(dict(seen), flush=True)


def _newest(place: Path) -> Path | None:
    return max(place.glob("checkpoint-*.safetensors"), default=None)


def sweep(kills: int, seed: int = 0) -> Counter[str]:
    """Kill trainings until there were so many kills; AssertionError if one ends with other weights."""
    drawn, seen = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "whole"
        began = time.monotonic()
        finish(start(*OPTIONS, "--out", str(place)), None)
        longest = 1.1 * (time.monotonic() - began)
        expected = load_file(place / "model.safetensors")
        metrics = _metrics(place)
        while sum(held for name, held in seen.items() if name.startswith("killed ") and "writing" not in name) < kills:
            place = Path(folder) / "killed"
            one_training(place, drawn, longest, seen)
            found = load_file(place / "model.safetensors")
            assert found.keys() == expected.keys()
            assert all(found[name].equal(held) for name, held in expected.items()), "other weights after a resume"
            assert _metrics(place) == metrics, "other metrics after a resume"
            seen["trainings that ended alike"] += 1
            print(dict(seen), flush=True)
            shutil.rmtree(place)
    return seen


def _metrics(place: Path) -> list[tuple[float, ...]]:
    from spikescope.train import read_metrics

    return [(e.epoch, e.train_loss, e.test_loss, e.test_accuracy) for e in read_metrics(place / "metrics.jsonl")]


if __name__ == "__main__":
    sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
