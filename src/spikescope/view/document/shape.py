"""The document of the page: one value that JSON can hold, with a version, and nothing of it from elsewhere.

`Document` lists its parts. Every part but the head may be empty: the page leaves out what is not there, and says so.

- A number that is not finite is the text `'nan'`, `'inf'` or `'-inf'`; None is what was not measured.
- Numbers have six digits. A part that was thinned out says so in its `note`, in words that the page shows beside it.
- What stands in `findings` comes in the order of importance, and in `layers` in the order in which the data came by.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "FORMAT",
    "VERSION",
    "Course",
    "Difference",
    "Document",
    "Energy",
    "EnergyOfLayer",
    "Finding",
    "Flow",
    "Image",
    "Layer",
    "Number",
    "Potential",
    "Raster",
    "Series",
    "empty",
    "number",
    "value",
]

FORMAT = "spikescope report"
VERSION = 1
"""Of the document. What this version writes, every later one reads."""

Number = float | int | str | None


class Finding(TypedDict):
    """See `monitor.Finding`; of its evidence the words, and a number for each label."""

    layer: str
    kind: str
    number: Number
    threshold: Number
    advice: str
    line: str
    words: str
    place: str
    unit: str
    labels: list[str]
    values: list[Number]
    limit: Number
    consequences: list[Finding]


class Layer(TypedDict):
    """A layer and its measures, those that there are.

    - `role`: what carries the activity, or what lies between.
    - `rate`: spikes of a neuron in a step. `spread`: the rates of the neurons sorted, at evenly chosen places.
    - `silent`: the share of neurons that never fired. `gradient`: the norm of the gradient of its output.
    - `operations`: of a sample, those that spikes bring about or that stay. `energy`: pJ of a sample.
    """

    name: str
    kind: str
    role: Literal["neurons", "weights"]
    neurons: NotRequired[int]
    parameters: NotRequired[int]
    rate: NotRequired[Number]
    spread: NotRequired[list[Number]]
    silent: NotRequired[Number]
    gradient: NotRequired[Number]
    operations: NotRequired[Number]
    energy: NotRequired[Number]


class Series(TypedDict):
    """A line of a course."""

    name: str
    values: list[Number]


class Course(TypedDict):
    """What goes on over training or over the steps of a sample: a value of each series for each `x`.

    - `axis`: what `x` counts, as `'epoch'`, `'run'`, `'update'` or `'time step'`.
    - `form`: shares are shown in per cent.
    """

    title: str
    axis: str
    unit: str
    form: Literal["number", "share"]
    x: list[Number]
    series: list[Series]
    note: str


class Raster(TypedDict):
    """Spikes of some neurons of a layer for one sample.

    - `steps`: how many there are; `first`: the number of the first, `bin`: so many make a column, in which there is a
      mark if there is a spike. `neurons`: how many the layer has; `rows`: the numbers of those shown.
    - `marks`: for each row the columns with a spike, from 0.
    """

    layer: str
    sample: str
    steps: int
    first: int
    bin: int
    neurons: int
    rows: list[int]
    marks: list[list[int]]
    note: str


class Potential(TypedDict):
    """The potential of a neuron for one sample: values at steps, and the steps at which it fired."""

    layer: str
    neuron: int
    sample: str
    x: list[int]
    values: list[Number]
    spikes: list[int]
    threshold: Number
    reset: Number
    note: str


class Flow(TypedDict):
    """The norm of the gradient of the output of each layer at each step: a row for each of the `layers`."""

    layers: list[str]
    norms: list[list[Number]]
    note: str


class EnergyOfLayer(TypedDict):
    """Picojoules of a sample."""

    name: str
    kind: str
    operations: Number
    updates: Number
    accesses: Number
    twin: Number


class Energy(TypedDict):
    """See `analysis.Energy`; picojoules of a sample, with spikes and of the twin without."""

    model: str
    source: str
    total: Number
    twin: Number
    usual: Number
    honest: Number
    layers: list[EnergyOfLayer]


class Image(TypedDict):
    """The sample that rasters and potentials are of: rows of levels from 0 to 255."""

    words: str
    rows: list[list[int]]


class Difference(TypedDict):
    """What comparing the recorded values said, in sentences: the first difference first."""

    words: list[str]


class Document(TypedDict):
    """All that the page shows.

    - `source`: where it comes from. `facts`: a few words that stand at its head, each with its name.
    - `findings`; `judged`: whether any were looked for. `unjudged`: what could not be judged, and why.
    - `configuration`: names and values, in order. `notes`: what was left out or is damaged.
    - `difference`: of the second of two recordings, how its values differ from those of the first.
    """

    format: str
    version: int
    source: Literal["run", "recording", "live"]
    title: str
    facts: list[list[str]]
    judged: bool
    findings: list[Finding]
    unjudged: list[str]
    layers: list[Layer]
    courses: list[Course]
    image: Image | None
    rasters: list[Raster]
    potentials: list[Potential]
    flow: Flow | None
    energy: Energy | None
    configuration: list[list[str]]
    versions: list[list[str]]
    notes: list[str]
    difference: Difference | None


def empty(source: Literal["run", "recording", "live"], title: str) -> Document:
    """A document of which nothing is known yet.

    >>> empty("live", "A network")["layers"]
    []
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": source,
        "title": title,
        "facts": [],
        "judged": False,
        "findings": [],
        "unjudged": [],
        "layers": [],
        "courses": [],
        "image": None,
        "rasters": [],
        "potentials": [],
        "flow": None,
        "energy": None,
        "configuration": [],
        "versions": [],
        "notes": [],
        "difference": None,
    }


def number(given: Any) -> Number:
    """A number as the document holds it.

    >>> number(0.123456789), number(3.0), number(float("nan")), number(None)
    (0.123457, 3, 'nan', None)
    """
    if given is None or isinstance(given, str):
        return given
    held = float(given)
    if not math.isfinite(held):
        return "nan" if math.isnan(held) else "inf" if held > 0 else "-inf"
    held = float(f"{held:.6g}")
    return int(held) if held.is_integer() and abs(held) < 1e15 else held


def value(held: Number) -> float:
    """A number of the document to be computed with; NaN for what was not measured.

    >>> value("inf"), value(2), value(None)
    (inf, 2.0, nan)
    """
    return math.nan if held is None else float(held)
