"""The page in its parts, each as HTML: what a report writes one after another, and what the live view replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..document.shape import Document
from .bars import energy, gradients
from .courses import courses
from .findings import findings
from .levels import Scale, scales_of
from .markup import clean, tag
from .network import legend, map_of
from .samples import potentials, rasters
from .table import table_of

__all__ = ["SECTIONS", "sections", "title_of"]

Draw = Callable[[Document, Mapping[str, Scale], str], str]

SECTIONS: Mapping[str, tuple[str, str, Draw]] = {
    "findings": ("Findings", "Findings", lambda held, scales, key: findings(held, key)),
    "map": ("Network", "The network, from input to output", lambda held, scales, key: map_of(held, scales)),
    "courses": ("Training", "Over training", lambda held, scales, key: courses(held, key)),
    "rasters": ("Spikes", "One sample, spike by spike", lambda held, scales, key: rasters(held, key)),
    "potentials": ("Potentials", "Potentials", lambda held, scales, key: potentials(held, key)),
    "gradients": ("Gradient", "How far the gradient reaches", lambda held, scales, key: gradients(held)),
    "energy": ("Energy", "Energy of a sample", lambda held, scales, key: energy(held["energy"])),
    "layers": ("Layers", "Layers", lambda held, scales, key: table_of(held, scales)),
    "configuration": ("Configuration", "Configuration", lambda held, scales, key: _configuration(held)),
}
"""The name of each part, its title, and how it is drawn; nothing where there is nothing."""

WORDS = {
    "map": "Each bar is a layer of neurons, as wide as the square root of their number; within it the neurons sorted "
    "by rate, the busiest in the middle. Ribbons are what runs between: they say what came next, not what is wired.",
    "rasters": "Time to the right, a row for each neuron, a mark for each spike. Steps and neurons count from 0.",
    "potentials": "Of each layer neurons that fire at different rates, or else those that move most: dashed "
    "the threshold, dotted the reset, above the spikes. Where a line never crosses the threshold, and is at the reset "
    "where a spike stands, it is the potential that a step leaves.",
}


def sections(documents: Sequence[Document]) -> dict[str, str]:
    """The parts that there is something for, by name; of two documents side by side, on one scale."""
    scales = scales_of(documents)
    pair = len(documents) > 1
    made = {}
    for name, (_, _, draw) in SECTIONS.items():
        drawn = [draw(held, scales, f"{at}.") for at, held in enumerate(documents)]
        if not any(drawn):
            continue
        if pair:
            drawn = [
                tag("div", tag("p", clean(f"{'AB'[at]}: {held['title']}"), class_="whose"), part or _nothing())
                for at, (held, part) in enumerate(zip(documents, drawn, strict=True))
            ]
            body = tag("div", *drawn, class_="pair")
        else:
            body = drawn[0]
        words = tag("p", clean(WORDS[name]), class_="words") if name in WORDS else ""
        above = _choice(scales) + legend(scales) if name == "map" else ""
        head = tag("h2", clean(title_of(name, documents)), id=f"{name}-title")
        brief = title_of(name, documents, short=True)
        made[name] = tag(
            "section", head, words, above, body, id=name, aria_labelledby=f"{name}-title", data_name=brief
        )  # fmt: skip
    return made


def title_of(name: str, documents: Sequence[Document], short: bool = False) -> str:
    """The title of a part, in full or as a link to it has it. What a recording has courses of need be no training."""
    if name == "courses" and all(held["source"] == "recording" for held in documents):
        return "Runs" if short else "Over the runs"
    brief, title, _ = SECTIONS[name]
    return brief if short else title


def _nothing() -> str:
    return tag("p", "Nothing of this.", class_="note")


def _choice(scales: Mapping[str, Scale]) -> str:
    """Buttons for the measure that colours the map; script shows them."""
    if len(scales) < 2:
        return ""
    buttons = [
        tag("button", clean(scale.measure.name), type="button", data_measure=key, aria_pressed="false")
        for key, scale in scales.items()
    ]
    return tag(
        "div", tag("span", "Colour: "), *buttons, class_="choice", role="group", aria_label="Colour", hidden=True
    )


def _configuration(document: Document) -> str:
    parts = []
    for title, held in (("Configuration", document["configuration"]), ("Versions", document["versions"])):
        rows = [tag("tr", tag("th", clean(name), scope="row"), tag("td", clean(text))) for name, text in held]
        if rows:
            parts.append(tag("div", tag("h3", title), tag("table", tag("tbody", *rows)), class_="held"))
    if document["notes"]:
        notes = [tag("li", clean(text)) for text in document["notes"]]
        parts.append(tag("div", tag("h3", "Left out, or damaged"), tag("ul", *notes), class_="held"))
    return "".join(parts)
