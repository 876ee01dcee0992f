"""Trainings killed at random moments and taken up again: `python tests/sweeps/kill_training.py 200` (`make resumes`).

A training runs as a process of its own, gets SIGKILL after a random time, and is resumed, again and again until it is
done. Its last weights must be those of the training that was never killed, bit for bit. A kill before the first
checkpoint begins anew in the same folder, emptied.

The training that is never killed is the command, in a fresh interpreter. The others are forked from a process that has
imported what they need and has run nothing, because the imports take longer than a training. What has happened is in
build/resumes-SEED-COMMIT.json whenever a training has ended, and another call at the
same commit goes on from there; with changes that are in no commit it begins anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
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

from spikescope.cli.main import main
from spikescope.files import write_whole
from spikescope.train import read_metrics

OPTIONS = shlex.split(
    "--model spikescope.train:digits_network --data digits -T 2 --epochs 3 -b 128 --lr 4e-3 --save-every 2 --keep 2 "
    "--mixup-alpha 0.2 --model-ema --model-ema-steps 2 --threads 1 --device cpu --quiet"
)
KILLS = "killed before a checkpoint", "killed after a checkpoint"
LOADED = ["spikescope.cli.main", "spikescope.train", "sklearn.datasets", "safetensors.torch", "torch._dynamo"]


def trained(arguments: list[str], words: str) -> None:
    """The command `spikescope train`, in a process that does nothing else; what it says goes into a file."""
    said = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.exit(main(["train", *arguments]))


def finish(arguments: list[str], words: Path, within: float | None) -> bool:
    """Whether it ends by itself within a time; else it is killed. RuntimeError with its words if it fails."""
    process = multiprocessing.get_context("forkserver").Process(target=trained, args=(arguments, str(words)))
    process.start()
    process.join(within)
    process.kill()  # SIGKILL, which an ended process does not hear
    process.join()
    if process.exitcode not in (0, -9):
        raise RuntimeError(f"exit status {process.exitcode}: {words.read_text()}")
    return process.exitcode == 0


def one_training(place: Path, drawn: random.Random, longest: float) -> Counter[str]:
    """One training, killed until it comes through: what has happened.

    A process that is killed before it writes anything has more time the next time: on a machine that has become
    slower, none would come further than to its start.
    """
    seen, words = Counter[str](), place.with_suffix(".words")
    while True:
        before = _newest(place)
        begun = before is not None
        if not begun:
            shutil.rmtree(place, ignore_errors=True)
        arguments = ["--resume", str(place)] if begun else [*OPTIONS, "--out", str(place)]
        if finish(arguments, words, drawn.uniform(0, longest)):
            return seen
        after = _newest(place)
        longest *= 1.0 if after != before else 1.1
        seen[KILLS[after is not None]] += 1
        drafts = [entry.name for entry in place.glob(".*.safetensors*")] if place.exists() else []
        seen["killed while writing"] += bool(drafts)


def _newest(place: Path) -> Path | None:
    return max(place.glob("checkpoint-*.safetensors"), default=None)


def sweep(kills: int, seed: int, tally: Path) -> None:
    """Kill trainings until there were so many kills; AssertionError if one ends with other weights."""
    multiprocessing.set_forkserver_preload(LOADED)
    seen = Counter[str](json.loads(tally.read_text()) if tally.exists() else {})
    with tempfile.TemporaryDirectory() as folder:
        whole, place = Path(folder) / "whole", Path(folder) / "killed"
        command = [sys.executable, "-W", "ignore", "-m", "spikescope", "train", *OPTIONS, "--out", str(whole)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        expected = load_file(whole / "model.safetensors"), _metrics(whole)
        finish(["--help"], whole.with_suffix(".words"), None)  # the first to be forked waits for the imports
        began = time.monotonic()
        assert finish([*OPTIONS, "--out", str(place)], place.with_suffix(".words"), None)
        longest = 1.1 * (time.monotonic() - began)
        _compare(place, *expected)
        while (done := sum(seen[name] for name in KILLS)) < kills:
            seen += one_training(place, random.Random(f"{seed} {done}"), longest)
            _compare(place, *expected)
            seen["trainings that ended alike"] += 1
            tally.parent.mkdir(exist_ok=True)
            write_whole(tally, json.dumps(seen, indent=1) + "\n")
            print(dict(seen), flush=True)


def _compare(place: Path, weights: dict[str, object], metrics: list[tuple[float, ...]]) -> None:
    """Whether a training has ended as it should; its folder is cleared away."""
    found = load_file(place / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(found[name].equal(held) for name, held in weights.items()), "other weights after a resume"
    assert _metrics(place) == metrics, "other metrics after a resume"
    shutil.rmtree(place)


def _metrics(place: Path) -> list[tuple[float, ...]]:
    return [(e.epoch, e.train_loss, e.test_loss, e.test_accuracy) for e in read_metrics(place / "metrics.jsonl")]


def _tally(seed: int) -> Path:
    """Where the counts of this commit are; those of changes that are in none are not gone on from."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    tally = Path("build") / f"resumes-{seed}-{commit.stdout.strip()}{'-changed' if changes.stdout else ''}.json"
    if changes.stdout:
        tally.unlink(missing_ok=True)
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", nargs="?", type=int, default=200, help="kills in all, those of earlier calls included")
    parser.add_argument("seed", nargs="?", type=int, default=0)
    given = parser.parse_args()
    sweep(given.kills, given.seed, _tally(given.seed))
