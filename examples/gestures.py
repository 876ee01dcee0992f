"""Train on recordings of an event camera laid out as DVS128 Gesture is published, several seeds.

    python examples/gestures.py             # three seeds, some minutes on a CPU
    python examples/gestures.py --quick     # one seed and fewer recordings, seconds

The recordings are simulated: a disc that moves in one of eight directions, and turns of it in one of two, are ten
gestures. From there on it is the way of the real data set: AEDAT 3.1 files with tables of labels, samples, frames,
training by a recipe, and a test on recordings of other people. Printed is the test accuracy of each seed.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.train import Recipe, Trainer, keeping_generators, load_data, seed_all

GESTURES, STEPS = 10, 8
LENGTH, TICK = 40, 2000  # looks of the camera in a gesture, and microseconds between them


def events(gesture: int, drawn: np.random.Generator) -> dict[str, np.ndarray]:
    """A disc that moves in direction 0 to 7, or runs round to the left (8) or to the right (9)."""
    rows, cols = np.mgrid[:128, :128]
    middle, radius = drawn.uniform(54, 74, 2), drawn.uniform(8, 14)
    begin = drawn.uniform(0, 2 * np.pi)
    before, parts = None, []
    for n in range(LENGTH):
        part = n / LENGTH
        if gesture < 8:
            angle = gesture * np.pi / 4 + drawn.normal(0, 0.02)
            place = middle + 80 * (part - 0.5) * np.array([np.sin(angle), np.cos(angle)])
        else:
            turn = begin + (2 * np.pi * part if gesture == 8 else -2 * np.pi * part)
            place = middle + 30 * np.array([np.sin(turn), np.cos(turn)])
        seen = (rows - place[0]) ** 2 + (cols - place[1]) ** 2 < radius**2
        if before is not None:
            y, x = np.nonzero((seen != before) & (drawn.random(seen.shape) < 0.8))
            noise = drawn.integers(0, 128, (2, 20))
            y, x = np.concatenate([y, noise[0]]), np.concatenate([x, noise[1]])
            on = np.concatenate([seen[y[:-20], x[:-20]], drawn.integers(0, 2, 20)])
            parts.append(np.stack([n * TICK + drawn.integers(0, TICK, len(y)), x, y, on]))
        before = seen
    t, x, y, p = np.concatenate(parts, axis=1)
    order = np.argsort(t, kind="stable")
    return {"t": t[order], "x": x[order], "y": y[order], "p": p[order]}


def write_recording(path: Path, drawn: np.random.Generator) -> None:
    """One person who makes every gesture once: an AEDAT 3.1 file and its table of labels."""
    clips, rows = [], []
    for place, gesture in enumerate(drawn.permutation(GESTURES)):
        start = place * LENGTH * TICK
        clip = events(int(gesture), drawn)
        clips.append({**clip, "t": clip["t"] + start})
        rows.append(f"{gesture + 1},{start},{start + LENGTH * TICK}")
    t, x, y, p = (np.concatenate([clip[name] for clip in clips]) for name in "txyp")
    pairs = np.stack([x << 17 | y << 2 | p << 1 | 1, t], axis=1).astype("<u4")
    head = np.array([1 << 16 | 1, 8, 4, 0, len(pairs), len(pairs), len(pairs)], "<u4")
    path.write_bytes(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + head.tobytes() + pairs.tobytes())
    path.with_name(f"{path.stem}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]))


def write_data_set(root: Path, train: int, test: int) -> None:
    """The folder of the data set, as it lies when the archive is unpacked."""
    folder = root / "extract" / "DvsGesture"
    folder.mkdir(parents=True)
    for seed, (part, people) in enumerate((("train", train), ("test", test))):
        names = [f"user{part}{number:02d}_lab" for number in range(people)]
        (folder / f"trials_to_{part}.txt").write_text("".join(f"{name}.aedat\n" for name in names))
        for number, name in enumerate(names):
            write_recording(folder / f"{name}.aedat", np.random.default_rng([seed, number]))


def network(num_classes: int = 11) -> nn.Module:
    """Frames `[T, N, 2, 128, 128]` to scores; pooled first, so that a CPU will do."""
    net = nn.Sequential(
        layer.AvgPool2d(4), layer.Conv2d(2, 16, 3, padding=1), layer.BatchNorm2d(16), neuron.LIFNode(v_threshold=0.5),
        layer.MaxPool2d(2), layer.Conv2d(16, 32, 3, padding=1), layer.BatchNorm2d(32), neuron.LIFNode(v_threshold=0.5),
        layer.MaxPool2d(2), layer.Flatten(), layer.Linear(32 * 8 * 8, num_classes),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


def main(arguments: Sequence[str] | None = None) -> float:
    """Run the example; gives the lowest test accuracy of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one seed and fewer recordings")
    parser.add_argument("--seeds", type=int, default=3, help="how many trainings (3)")
    given = parser.parse_args(arguments)
    people, seeds, epochs = ((8, 3), 1, 6) if given.quick else ((24, 12), given.seeds, 12)
    found = []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has no samples of the classes")  # ten of its eleven gestures
        root = Path(place)
        write_data_set(root, *people)
        for seed in range(seeds):
            recipe = Recipe(
                model="own:network", data="dvs128gesture", root=str(root), T=STEPS, epochs=epochs, batch_size=16,
                lr=5e-3, weight_decay=0.01, seed=seed, device="cpu",
            )  # fmt: skip
            data = load_data(recipe.data, recipe.root, recipe.T, {"split_by": "time"})
            with keeping_generators():
                seed_all(seed)
                net = network()
            history = Trainer(net, data, recipe).run()
            found.append(history[-1].test_accuracy)
            print(f"seed {seed}: {100 * found[-1]:.2f} % of {len(data.test)} test samples after {epochs} epochs")
    if len(found) > 1:
        print(f"mean {100 * np.mean(found):.2f} %, lowest {100 * min(found):.2f} %")
    return min(found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
