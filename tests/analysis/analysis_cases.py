"""Trains that the analyses are tried with, and the forms in which they can be given."""

from itertools import pairwise

import numpy as np
import torch

from spikescope.recording import Block, events_of, in_memory
from spikescope.spikes import PackedSpikes


def drawn(shape, rate, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def bursty(shape, seed=0):
    """Trains whose rate goes up and down: intervals of many lengths, and neurons that never or always fire."""
    generator = torch.Generator().manual_seed(seed)
    rate = torch.rand(shape, generator=generator) ** 3
    rate[..., 0], rate[..., -1] = 0, 1
    return (torch.rand(shape, generator=generator) < rate).float()


TRAINS = {
    "random": drawn((40, 3, 5), 0.3),
    "bursty": bursty((60, 4, 6)),
    "one sample": drawn((50, 1, 4), 0.2, seed=3),
    "grid": drawn((12, 2, 2, 3), 0.4, seed=1),
    "empty": torch.zeros(20, 2, 3),
    "one spike": torch.zeros(20, 2, 3).index_put(
        (torch.tensor(7), torch.tensor(1), torch.tensor(2)), torch.tensor(1.0)
    ),
    "all spikes": torch.ones(20, 2, 3),
    "one step": drawn((1, 3, 4), 0.5),
}

NOTHING = {"no neuron": torch.zeros(6, 2, 0), "no sample": torch.zeros(6, 0, 3), "no step": torch.zeros(0, 2, 3)}


def events(runs):
    """The events of some runs, each a tensor."""
    return events_of([Block(number, 0, 0, x) for number, x in enumerate(runs)])


def signal(runs, generator):
    """A signal of a recording of some runs, cut at random."""
    blocks = cut(runs, generator)
    parts = [[block.values for block in blocks if block.run == number] for number in range(len(runs))]
    return in_memory({"layer": {"spike": parts}})["layer"]["spike"]


def cut(runs, generator, pack=False):
    """Blocks of some runs, each a tensor, cut at random along time."""
    blocks = []
    for number, x in enumerate(runs):
        borders = sorted({0, len(x), *generator.integers(0, len(x) + 1, 4).tolist()})
        pieces = list(pairwise(borders)) or [(0, 0)]
        for first, last in pieces:
            held = x[first:last]
            blocks.append(Block(number, first, 0, PackedSpikes.from_dense(held) if pack else held))
    return blocks


def sliced(runs, generator):
    """The same, each of whose steps come as two blocks of samples."""
    blocks = []
    for run, step, sample, values in cut(runs, generator):
        half = values.shape[1] // 2
        blocks += [Block(run, step, sample, values[:, :half]), Block(run, step, sample + half, values[:, half:])]
    return blocks


def given_to(measure, spikes, other, samples, steps):
    """The arguments that a measure takes, with `spikes` and `other` in whatever form."""
    rng = np.random.default_rng(5)
    made = {
        "spikes": spikes,
        "other": other,
        "labels": rng.integers(0, 3, samples),
        "feature": rng.normal(size=samples),
        "events": rng.integers(0, max(1, steps), 4) if steps else np.zeros(0, dtype=np.int64),
        "layers": {"one": spikes, "two": other},
    }
    return [made[name] for name in measure.takes], dict(measure.example)


def tensors(value):
    """All numbers of a result, flat."""
    if isinstance(value, torch.Tensor):
        return [value.double()]
    if isinstance(value, tuple):
        return [held for part in value for held in tensors(part)]
    return [torch.tensor(float(value), dtype=torch.float64)] if isinstance(value, (int, float)) else []


def same(a, b):
    """Whether two results are equal to the last bit, NaN where NaN is."""
    left, right = tensors(a), tensors(b)
    return len(left) == len(right) and all(
        x.shape == y.shape and torch.equal(x.nan_to_num(-7.5), y.nan_to_num(-7.5))
        for x, y in zip(left, right, strict=True)
    )
