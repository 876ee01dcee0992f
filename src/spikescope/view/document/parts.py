"""The parts of a document from tensors and results, each within the size that a page can show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import analysis, monitor
from ...report.sample import lively
from ...report.views import LayerTrace, at_each_step
from .shape import Course, Energy, Finding, Flow, Image, Layer, Number, Potential, Raster, number

__all__ = [
    "COLUMNS",
    "COURSES",
    "IN_HUNDRED",
    "MARKS",
    "NEURONS",
    "POINTS",
    "ROWS",
    "course_of",
    "energy_of",
    "evenly",
    "finding_of",
    "flow_of",
    "image_of",
    "layer_of",
    "liveliest",
    "potential_of",
    "priced_of",
    "raster_of",
    "rate_course_of",
    "rate_of",
    "spread_of",
]

IN_HUNDRED = "spikes of a neuron in 100 steps"
"""What the rates of a page are, wherever they stand."""

ROWS = 40  # neurons of a raster
COLUMNS = 800  # of a raster
MARKS = 3000  # of a raster
POINTS = 400  # of a line
COURSES = 200  # lines of a course
NEURONS = 3  # of a layer, whose potentials are shown
LABELS = 60  # of the evidence of a finding
IMAGE = 32  # pixels in each direction
SPREAD = 17  # places among the sorted neurons


def evenly(count: int, most: int) -> list[int]:
    """At most so many places, evenly chosen, the first and the last among them.

    >>> evenly(3, 8), evenly(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def rate_of(rate: float) -> str:
    """The mean rate of neurons, of spikes in a step, among the facts.

    >>> rate_of(0.0634)
    '6.34 in 100 steps'
    """
    return f"{100 * rate:.3g} in 100 steps"


def _thinned(values: NDArray[Any], most: int) -> tuple[list[int], str]:
    """The places of at most so many values that show the course of all: of each stretch the least and the largest."""
    count = len(values)
    if count <= most:
        return list(range(count)), ""
    edges = np.linspace(0, count, most // 2 + 1).astype(int)
    kept = {0, count - 1}
    for low, high in pairwise(edges):
        part = values[low:high]
        odd = np.flatnonzero(~np.isfinite(part))
        finite = np.where(np.isfinite(part), part, 0.0)
        kept |= {int(low + finite.argmin()), int(low + finite.argmax()), *(int(low + at) for at in odd[:1])}
    return sorted(kept), f"{len(kept):,} of {count:,} points: the least and the largest of each stretch"


def finding_of(found: monitor.Finding) -> Finding:
    """A finding with its evidence and its consequences."""
    evidence = found.evidence
    chosen = evenly(len(evidence.labels), LABELS)
    return {
        "layer": found.layer,
        "kind": found.kind,
        "number": number(found.number),
        "threshold": number(found.threshold),
        "advice": found.advice,
        "line": found.line,
        "words": evidence.words,
        "place": evidence.place,
        "unit": evidence.unit,
        "labels": [evidence.labels[at] for at in chosen],
        "values": [number(evidence.values[at]) for at in chosen],
        "limit": number(evidence.limit),
        "consequences": [finding_of(held) for held in found.consequences],
    }


def course_of(
    title: str,
    axis: str,
    unit: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    share: bool = False,
) -> Course:
    """Lines over training or time.

    >>> held = course_of("Loss", "epoch", "", [1, 2], {"train": [0.5, float("nan")]})
    >>> held["series"]
    [{'name': 'train', 'values': [0.5, 'nan']}]
    """
    names = list(series)
    notes = []
    if len(names) > COURSES:
        notes.append(f"{COURSES} of {len(names):,} lines, evenly chosen")
        names = [names[at] for at in evenly(len(names), COURSES)]
    kept = list(range(len(x)))
    if len(x) > POINTS:  # all lines have their values at the same places
        first = np.asarray([series[name] for name in names], dtype=np.float64)
        kept, note = _thinned(first.mean(0), POINTS)
        notes.append(note)
    return {
        "title": title,
        "axis": axis,
        "unit": unit,
        "form": "share" if share else "number",
        "x": [number(x[at]) for at in kept],
        "series": [{"name": name, "values": [number(series[name][at]) for at in kept]} for name in names],
        "note": "; ".join(notes),
    }


def rate_course_of(title: str, axis: str, of: str, x: Sequence[float], series: Mapping[str, Sequence[float]]) -> Course:
    """Lines of rates, which are given in spikes of a step; `of` says which neurons' spikes these are, or nothing.

    >>> held = rate_course_of("Firing rate", "run", "", [1, 2], {"0": [0.5, 0.25]})
    >>> held["unit"], held["series"][0]["values"]
    ('spikes of a neuron in 100 steps', [50, 25])
    """
    unit = f"{IN_HUNDRED}, {of}" if of else IN_HUNDRED
    return course_of(title, axis, unit, x, {name: [100 * rate for rate in held] for name, held in series.items()})


def raster_of(
    layer: str, spikes: Tensor, sample: str = "", neurons: int | None = None, rows: Sequence[int] = (), first: int = 0
) -> Raster:
    """The spikes `[T, F]` of one sample; any value but 0 and NaN is one.

    - `rows`, `neurons`: which neurons these are, of how many, where they were chosen before. `first`: the first step.

    >>> held = raster_of("lif", torch.eye(3))
    >>> held["marks"], held["rows"]
    ([[0], [1], [2]], [0, 1, 2])
    """
    steps, count = spikes.shape
    chosen = evenly(count, ROWS)
    held = spikes[:, chosen].detach().double().cpu().numpy() if count else np.zeros((steps, 0))
    marked = (held != 0) & ~np.isnan(held)
    width = -(-steps // COLUMNS) if steps > COLUMNS else 1
    if width > 1:
        marked = np.pad(marked, ((0, -steps % width), (0, 0)))
        marked = marked.reshape(-1, width, len(chosen)).any(1)
    while marked.sum() > MARKS and len(chosen) > 1:  # fewer neurons, not fewer spikes
        kept = evenly(len(chosen), len(chosen) // 2)
        marked, chosen = marked[:, kept], [chosen[at] for at in kept]
    whole = count if neurons is None else neurons
    named = [rows[at] for at in chosen] if rows else chosen
    notes = [f"{len(named)} of {whole:,} neurons, evenly chosen"] if len(named) < whole else []
    notes += [f"a mark is at least one spike in {width} steps"] if width > 1 else []
    return {
        "layer": layer,
        "sample": sample,
        "steps": steps,
        "first": first,
        "bin": width,
        "neurons": whole,
        "rows": [int(row) for row in named],
        "marks": [[int(at) for at in np.flatnonzero(column)] for column in marked.T],
        "note": "; ".join(notes),
    }


def potential_of(
    layer: str,
    neuron: int,
    values: Tensor,
    spikes: Iterable[int] = (),
    threshold: Number = None,
    reset: Number = None,
    sample: str = "",
    first: int = 0,
) -> Potential:
    """The potential `[T]` of a neuron, and the steps, counted from 0, at which it fired.

    >>> potential_of("lif", 0, torch.tensor([0.5, float("inf")]))["values"]
    [0.5, 'inf']
    """
    held = values.detach().double().cpu().numpy()
    kept, note = _thinned(held, POINTS)
    return {
        "layer": layer,
        "neuron": int(neuron),
        "sample": sample,
        "x": [first + at for at in kept],
        "values": [number(held[at]) for at in kept],
        "spikes": [first + int(at) for at in spikes][:MARKS],
        "threshold": number(threshold),
        "reset": number(reset),
        "note": note,
    }


def flow_of(norms: Mapping[str, Any]) -> Flow | None:
    """How far the gradient reaches back: to each layer, in the order of the data, its norm at each step `[T]`.

    >>> flow_of({"fc": torch.tensor([3.0, 4.0])})["norms"]
    [[3, 4]]
    """
    if not norms:
        return None
    held = {
        name: np.asarray(torch.as_tensor(row, device="cpu").detach().double()).reshape(-1)
        for name, row in norms.items()
    }
    rows, fewer = at_each_step(held)
    steps = max(map(len, rows.values()))
    width = -(-steps // POINTS) if steps > POINTS else 1
    notes = [f"each column is the norm over {width} steps"] if width > 1 else []
    notes += [f"without one at each step, and left out: {', '.join(fewer)}"] if fewer else []
    return {
        "layers": list(rows),
        "norms": [[number(held) for held in _joined(row, width)] for row in rows.values()],
        "note": "; ".join(notes),
    }


def _joined(norms: NDArray[Any], width: int) -> NDArray[Any]:
    if width == 1:
        return norms
    padded = np.pad(np.square(norms), (0, -len(norms) % width)).reshape(-1, width)
    return np.asarray(np.sqrt(padded.sum(1)))


def energy_of(held: analysis.Energy) -> Energy:
    """The energy of a sample.

    >>> work = [analysis.Work("fc", "Linear", dense=1000, acs=400, outputs=10)]
    >>> energy_of(analysis.energy(work))["layers"][0]["operations"]
    360
    """
    return {
        "model": held.model,
        "source": held.costs.source,
        "total": number(held.total),
        "twin": number(held.twin),
        "usual": number(held.usual),
        "honest": number(held.honest),
        "layers": [
            {
                "name": layer.work.name,
                "kind": layer.work.kind,
                "operations": number(layer.operations),
                "updates": number(layer.updates),
                "accesses": number(layer.accesses),
                "twin": number(layer.twin),
            }
            for layer in held.layers
        ],
    }


def priced_of(layer: analysis.work.LayerEnergy) -> Any:
    """The energy of a layer, and its operations where it has any."""
    operations = layer.work.acs + layer.work.macs
    return {"energy": number(layer.total)} | ({"operations": number(operations)} if operations else {})


def spread_of(rates: Tensor) -> list[Number]:
    """The sorted rates of the neurons, at evenly chosen places; of none an empty list.

    >>> spread_of(torch.arange(33.0))[:3]
    [0, 2, 4]
    """
    held = rates.detach().double().flatten().cpu()
    held = held[~held.isnan()].sort().values
    return [number(held[at]) for at in evenly(len(held), SPREAD)]


def layer_of(name: str, kind: str, rates: Tensor, silent: float | None = None) -> Layer:
    """A layer of neurons with the rate of each.

    >>> layer_of("lif", "LIFNode", torch.tensor([0.0, 0.5]))["silent"]
    0.5
    """
    held = rates.detach().double().flatten().cpu()
    share = (held == 0).double().mean() if silent is None else silent
    return {
        "name": name,
        "kind": kind,
        "role": "neurons",
        "neurons": held.numel(),
        "rate": number(held.mean()),
        "spread": spread_of(held),
        "silent": number(share),
    }


def liveliest(potentials: Tensor, spikes: Tensor | None) -> list[int]:
    """The neurons of `[T, F]` that are worth a look: those that fire, at different rates; else those that move most.

    >>> liveliest(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.1, 3.0, 2.0, 1.0]]), None)
    [1, 2, 3]
    """
    if not potentials.numel():
        return []
    held = potentials.detach().double().nan_to_num(posinf=0.0, neginf=0.0).cpu().numpy()
    fired = np.zeros_like(held) if spikes is None else spikes.detach().double().cpu().numpy()
    return sorted(lively(LayerTrace("", "", fired, held), NEURONS))


def image_of(image: Any, words: str) -> Image:
    """A picture `[H, W]` in levels of grey, the least black and the largest white; coarser if it is large.

    >>> image_of(torch.tensor([[0.0, 1.0]]), "a digit")["rows"]
    [[0, 255]]
    """
    held = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    held = held[:: -(-held.shape[0] // IMAGE), :: -(-held.shape[1] // IMAGE)]
    low, span = held.min(), np.ptp(held)
    levels = np.rint(255 * (held - low) / (span or 1.0)).astype(int)
    return {"words": words, "rows": levels.tolist()}
