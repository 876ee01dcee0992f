"""The table of the layers, with every measure that there is."""

from __future__ import annotations

from collections.abc import Mapping

from ..document.shape import Document, Number, value
from .levels import Scale, measure_of
from .markup import clean, tag

__all__ = ["table_of"]


def table_of(document: Document, scales: Mapping[str, Scale]) -> str:
    """A row for each layer; script sorts it by the column whose head is chosen."""
    layers = document["layers"]
    if not layers:
        return ""
    sizes = [key for key in ("neurons", "parameters") if any(key in layer for layer in layers)]
    heads = ["layer", "kind", *sizes, *(scale.measure.name for scale in scales.values())]
    titles: dict[str, str] = {scale.measure.name: scale.measure.means for scale in scales.values()}
    units = {scale.measure.name: scale.measure.unit for scale in scales.values()}
    head = [
        tag("th", clean(text), _unit(units.get(text, "")), scope="col", title=titles.get(text), data_sort=text)
        for text in heads
    ]
    rows = []
    for at, layer in enumerate(layers):
        held: Mapping[str, object] = layer
        name = layer["name"] or "(network)"
        cells = [
            tag("th", clean(name), scope="row", data_value=float(at)),
            tag("td", clean(layer["kind"]), class_="kind"),
        ]
        for key in sizes:
            number = held.get(key)
            text = f"{number:,}" if isinstance(number, int) else ""
            cells.append(_cell(text, number if isinstance(number, int) else None))
        for key, scale in scales.items():
            found = measure_of(layer, key)
            cells.append(_cell("" if found is None else scale.measure.show(found), found))
        rows.append(tag("tr", *cells, data_layer=name))
    body = tag("tbody", *rows)
    return tag(
        "div", tag("table", tag("thead", tag("tr", *head)), body, class_="layers"), class_="scroll", tabindex="0"
    )


def _unit(words: str) -> str:
    return f" {tag('small', clean(words))}" if words else ""


def _cell(text: str, held: Number) -> str:
    return tag("td", clean(text), data_value=None if held is None else repr(value(held)))
