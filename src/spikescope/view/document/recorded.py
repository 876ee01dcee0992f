"""The document of a recording: what its signals say of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import monitor
from ...monitor.health.finding import Evidence
from ...monitor.health.registry import causes, ranked
from ...monitor.health.watch.seen import Limits
from ...recording import Layer as Recorded
from ...recording import Signal, StoredRecording
from ...recording.steps import chosen_steps
from ...spikes import PackedSpikes
from .parts import (
    ROWS,
    energy_of,
    evenly,
    finding_of,
    flow_of,
    layer_of,
    liveliest,
    potential_of,
    priced_of,
    raster_of,
    rate_course_of,
    rate_of,
)
from .privacy import told
from .shape import Document, Layer, Potential, Raster, empty, number

__all__ = ["of_recording"]

RASTERS = 40  # layers that have one
POTENTIALS = 12  # layers of which potentials are shown
STEPS = 4096  # of a run that are read for pictures
CANDIDATES = 256  # neurons among which the liveliest are looked for
GRADIENTS = ("grad_output", "grad_input")


class Counts(NamedTuple):
    """The spikes of each neuron, of either sign, all steps, the rate of each run, and the most spikes in a step."""

    spikes: Tensor
    steps: int
    runs: dict[int, float]
    most: int

    @property
    def rates(self) -> Tensor:
        """Spikes of each neuron in a step."""
        return self.spikes / max(1, self.steps)


def of_recording(
    recording: StoredRecording, net: Any = None, run: int | None = None, sample: int = 0, places: bool = False
) -> Document:
    """The document of a recording; measures are of all its runs, pictures of one sample of one run, the first.

    - `net`: the recorded network, for the energy, which needs its weights and the input of the layers with weights.
    """
    found = empty("recording", f"Recording of {len(recording)} module{'s' * (len(recording) != 1)}")
    counts = dict(_counted(recording, found))
    found["layers"] = _layers(recording, counts)
    found["facts"] = _facts(recording, counts)
    _judge(found, counts, recording)
    _courses(found, counts)
    _pictures(found, recording, run, sample)
    if net is not None:
        _price(found, monitor.energy(net, recording))
    head = recording.head
    keys = ("dt", "seed", "started", "every", "subset", "git")
    found["configuration"] = told({key: head[key] for key in keys if key in head}, places)
    versions = head.get("versions")
    found["versions"] = told(versions, places) if isinstance(versions, dict) else []
    if steps := chosen_steps(head):
        found["notes"].append(
            f"Of the steps of a run those of {steps} were recorded; they are shown one after the other."
        )
    found["notes"] += list(recording.damage)
    return found


def _counted(recording: StoredRecording, found: Document) -> Iterator[tuple[str, Counts]]:
    """The spikes of each layer that has any recorded; what cannot be read is a note."""
    for name, layer in recording.items():
        if "spike" not in layer or not len(layer["spike"]):
            continue
        try:
            yield name, _count(layer["spike"], layer.most_spikes)
        except ValueError as error:  # of lost steps, damage or other shapes
            found["notes"].append(str(error))


def _count(signal: Signal, most: int = 1) -> Counts:
    """The spikes: of values that are no numbers up to `most`, as where spikes are scaled, each but 0 is one."""
    total: Tensor | None = None  # the steps with a spike, and the numbers of spikes
    steps, runs, several = 0, dict[int, list[float]](), most > 1
    for block in signal.blocks():
        held = block.values
        length = held.shape[0] * held.shape[1]
        if isinstance(held, PackedSpikes):
            fired = held.count("neuron").sum(0) if held.shape[2:] == () else held.count("neuron")
            number = fired
        else:
            fired = number = ((held != 0) & ~held.isnan()).sum((0, 1))
            if several:
                size = held.double().abs()
                several = bool(((size == size.round()) & (size <= most)).all())
                number = size.sum((0, 1))
        seen = torch.stack([one.flatten().double() for one in (fired, number)])
        if total is not None and total.shape != seen.shape:
            raise ValueError(f"{signal.layer!r} has runs of different neurons, whose rates do not go together.")
        total = seen if total is None else total + seen
        steps += length
        run = runs.setdefault(block.run, [0.0, 0.0, 0.0])
        for at, part in enumerate((*seen.sum(1).tolist(), length * seen.shape[1])):
            run[at] += part
    rates = {index: held[several] / max(1.0, held[2]) for index, held in runs.items()}
    spikes = torch.zeros(0, device="cpu") if total is None else total[int(several)]
    return Counts(spikes, steps, rates, most)


def _layers(recording: StoredRecording, counts: dict[str, Counts]) -> list[Layer]:
    rows = []
    for name, layer in recording.items():
        if name in counts:
            row = layer_of(name, layer.kind, counts[name].rates)
        else:
            row = {"name": name, "kind": layer.kind, "role": "neurons" if "v_threshold" in layer.fields else "weights"}
        rows.append(row)
    return rows


def _facts(recording: StoredRecording, counts: dict[str, Counts]) -> list[list[str]]:
    signals = [signal for layer in recording.values() for signal in layer.values()]
    runs = [run for signal in signals for run in signal.runs]
    longest: dict[int, int] = {}  # an attribute has one value a call
    for run in runs:
        longest[run.index] = max(longest.get(run.index, 0), run.steps)
    facts = [["runs", f"{len(longest):,}"]]
    lengths = sorted(set(longest.values()))
    if lengths:
        facts.append(
            ["steps of a run", f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"]
        )
        facts.append(["samples of a run", f"{max(run.samples for run in runs):,}"])
    neurons = sum(len(held.spikes) for held in counts.values())
    if neurons:
        values = sum(len(held.spikes) * held.steps for held in counts.values())
        rate = sum(float(held.spikes.sum()) for held in counts.values()) / max(1, values)
        facts += [["neurons", f"{neurons:,}"], ["mean firing rate", rate_of(rate)]]
    return facts


def _judge(found: Document, counts: dict[str, Counts], recording: StoredRecording) -> None:
    """What spikes alone tell; the rest is said not to be judged."""
    limits, known, made = Limits(), causes(), []
    silent = {name: float((held.spikes == 0).double().mean()) for name, held in counts.items() if len(held.spikes)}
    full = {
        name: float((held.rates >= limits.saturated_rate * held.most).double().mean())
        for name, held in counts.items()
        if len(held.spikes)
    }
    for shares, limit, words in (
        (silent, limits.silent, "{:.0%} of the neurons never fired"),
        (full, limits.saturated, f"{{:.0%}} of the neurons {{}} {limits.saturated_rate:.0%} of the {{}} or more"),
    ):
        for name, share in shares.items():
            if share < limit:
                continue
            kind = "saturated neurons" if shares is full else "silent layer" if share == 1 else "silent neurons"
            several = counts[name].most > 1
            said = words.format(
                share, "gave" if several else "fired in", "spikes that they can" if several else "steps"
            )
            evidence = Evidence(said, "share of the neurons", tuple(shares), tuple(shares.values()), limit=limit)
            made.append(known[kind].found(name, share, limit, evidence))
    found["judged"] = bool(counts)
    found["findings"] = [finding_of(held) for held in ranked(made, {name: at for at, name in enumerate(recording)})]
    if not counts:
        found["unjudged"].append("activity: no spikes were recorded")
    found["unjudged"].append(
        "gradients, inputs, potentials and weights: these are judged while the network runs. Watch it with "
        "monitor.health, and give report(..., health=watch)"
    )


def _courses(found: Document, counts: dict[str, Counts]) -> None:
    runs = sorted({run for held in counts.values() for run in held.runs})
    if len(runs) > 1:
        series = {name: [held.runs.get(run, math.nan) for run in runs] for name, held in counts.items()}
        found["courses"].append(
            rate_course_of("Firing rate of each layer", "run", "mean over samples and steps", runs, series)
        )


def _pictures(found: Document, recording: StoredRecording, run: int | None, sample: int) -> None:
    """Rasters, potentials and gradients of one run; what is beyond their number is said."""
    spiking = [name for name, layer in recording.items() if "spike" in layer and len(layer["spike"])]
    potentials = [name for name, layer in recording.items() if _potential(layer) is not None]
    for names, most, what in ((spiking, RASTERS, "rasters"), (potentials, POTENTIALS, "potentials")):
        if len(names) > most:
            found["notes"].append(f"{what.capitalize()} are shown of {most} of {len(names):,} layers, evenly chosen.")
    flows = {}
    for names, most, read in ((spiking, RASTERS, _raster), (potentials, POTENTIALS, _potentials)):
        for name in [names[at] for at in evenly(len(names), most)]:
            try:
                read(found, recording[name], run, sample)
            except (ValueError, IndexError) as error:
                found["notes"].append(str(error))
    for name, layer in recording.items():
        signal = next((layer[held] for held in GRADIENTS if held in layer and len(layer[held])), None)
        if signal is not None:
            try:
                flows[name] = _norms(signal, run)
            except (ValueError, IndexError) as error:
                found["notes"].append(str(error))
    found["flow"] = flow_of(flows)


def _place(signal: Signal, run: int | None, sample: int) -> tuple[int, int, slice, str]:
    """The run, its steps, those that are read, and the words for the sample."""
    held = signal.runs[0] if run is None else signal[run].run
    words = f"run {held.index}, sample {sample}"
    if held.steps > STEPS:
        words += f", the first {STEPS:,} of {held.steps:,} steps"
    return held.index, held.steps, slice(0, STEPS), words


def _raster(found: Document, layer: Recorded, run: int | None, sample: int) -> None:
    signal = layer["spike"]
    index, _, steps, words = _place(signal, run, sample)
    count = math.prod(signal[index].shape[2:])
    rows = evenly(count, ROWS)
    spikes = signal.read(index, steps, sample, rows)[:, 0]
    names = rows if signal.neurons is None else [signal.neurons[row] for row in rows]
    raster: Raster = raster_of(layer.name, spikes, words, count, names)
    found["rasters"].append(raster)


def _potential(layer: Recorded) -> Signal | None:
    return next((layer[held] for held in ("h", "v") if held in layer and len(layer[held])), None)


def _potentials(found: Document, layer: Recorded, run: int | None, sample: int) -> None:
    signal = _potential(layer)
    assert signal is not None
    index, _, steps, words = _place(signal, run, sample)
    candidates = evenly(math.prod(signal[index].shape[2:]), CANDIDATES)
    held = signal.read(index, steps, sample, candidates)[:, 0].double()
    spikes = None
    if "spike" in layer and len(layer["spike"]):
        spikes = layer["spike"].read(index, steps, sample, candidates)[:, 0]
    for at in liveliest(held, spikes):
        fired = [] if spikes is None else ((spikes[:, at] != 0) & ~spikes[:, at].isnan()).nonzero().flatten().tolist()
        name = candidates[at] if signal.neurons is None else signal.neurons[candidates[at]]
        limits = {
            key: number(layer.fields.get(key))
            for key in ("v_threshold", "v_reset")
            if _is_number(layer.fields.get(key))
        }
        potential: Potential = potential_of(
            layer.name, name, held[:, at], fired, limits.get("v_threshold"), limits.get("v_reset"), words
        )
        found["potentials"].append(potential)


def _is_number(held: Any) -> bool:
    return isinstance(held, (int, float)) and not isinstance(held, bool)


def _norms(signal: Signal, run: int | None) -> Tensor:
    """The norm of a gradient at each step, over samples and neurons."""
    index = signal.runs[0].index if run is None else run
    parts = []
    for block in signal.blocks(index):
        held = block.values.dense() if isinstance(block.values, PackedSpikes) else block.values
        parts.append(held.double().flatten(1).square().sum(1).sqrt())
    return torch.cat(parts)


def _price(found: Document, energy: Any) -> None:
    """The energy, where the recording has what it follows from: without operations it would be that of nothing."""
    if not energy.twin:
        found["unjudged"].append(
            "the energy: it follows from what the layers with weights are given. Record their 'input' as well"
        )
        return
    found["energy"] = energy_of(energy)
    priced = {layer.work.name: layer for layer in energy.layers}
    for row in found["layers"]:
        if row["name"] in priced:
            row.update(priced_of(priced[row["name"]]))
