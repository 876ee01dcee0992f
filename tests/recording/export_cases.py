"""A recording in memory with what exports find hard: runs of unlike batches, silent neurons, layers of unlike shapes,
chosen neurons; and an account of its spikes by loops."""

from __future__ import annotations

import torch

from spikescope.recording import Layer, Signal, StoredRecording
from spikescope.recording.held import Held
from spikescope.spikes import PackedSpikes

DT = 0.07
STEPS = 5
NOTES = [{"run": 0, "label": [7, 3]}, {"run": 2, "label": [1, 1, 5], "part": "test"}]


def made_of(layer, name, tensors, neurons=None):
    """A signal of the tensors [T, N, *] of some runs; of chosen neurons alone, if they are given."""
    if neurons is not None:
        tensors = {run: held.flatten(2)[..., list(neurons)] for run, held in tensors.items()}
    if name == "spike":
        tensors = {run: PackedSpikes.from_dense(held) for run, held in tensors.items()}
    return Signal(layer, name, [Held(run, 0, held) for run, held in tensors.items()], neurons)


def together(signals, dt=DT, notes=NOTES):
    """A recording of these signals."""
    layers = {}
    for signal in signals:
        layers.setdefault(signal.layer, {})[signal.name] = signal
    return StoredRecording({name: Layer(name, held) for name, held in layers.items()}, {"dt": dt}, notes)


def spikes(seed, *shape, silent=()):
    """Random spikes; the neurons of these flat numbers have none."""
    made = (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    made.flatten(2)[..., list(silent)] = 0
    return made


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tensors(steps=(STEPS, STEPS), head=(0, 2), head_steps=None, silent=False):
    """Two runs, of two and of three samples: spikes of two layers, the first and last neuron of one silent, and the
    potentials of the other, which may have been recorded in one run alone, or for fewer steps."""
    runs = list(zip((0, 2), steps, (2, 3), strict=True))
    conv = {run: spikes(run, t, n, 2, 3, silent=range(6) if silent else (0, 5)) for run, t, n in runs}
    kept = [(run, (head_steps or {}).get(run, t), n) for run, t, n in runs if run in head]
    spike = {run: spikes(10 + run, t, n, 4, silent=range(4) if silent else ()) for run, t, n in kept}
    v = {run: numbers(20 + run, t, n, 4) for run, t, n in kept}
    return {("net.conv", "spike"): conv, ("head", "spike"): spike, ("head", "v"): v}


def recording(dt=DT, neurons=None, **what):
    """The recording of `tensors`; of `net.conv` these neurons alone."""
    chosen = {"net.conv": neurons}
    return together([made_of(*key, held, chosen.get(key[0])) for key, held in tensors(**what).items()], dt)


def account(layer, neurons=None, **what):
    """(run, sample, step, flat number of the neuron) of each spike of a layer, sorted."""
    found = []
    for run, held in tensors(**what)[layer, "spike"].items():
        for step, sample, neuron in held.flatten(2).nonzero().tolist():
            if neurons is None or neuron in neurons:
                found.append((run, sample, step, neuron))
    return sorted(found)


TRIALS = [(0, 0, 0), (0, 1, 5), (2, 0, 10), (2, 1, 15), (2, 2, 20)]
"""(run, sample, steps of all before it) of each trial in order."""
