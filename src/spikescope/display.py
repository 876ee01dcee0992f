"""How a value shows itself: a line and a table, as text for a terminal and as HTML for a notebook. One mechanism."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Displayed", "Overview", "amount", "bytes_in", "laid_out", "size_of"]

ROWS = 24
"""Rows that are shown of a table; the last one says how many there are beside."""

STYLE = "border-collapse:collapse;font-family:ui-monospace,monospace;font-size:90%"


class Overview(NamedTuple):
    """What is to be shown: a line, a table whose first row is its head, and remarks below."""

    title: str
    cells: Sequence[Sequence[str]] = ()
    remarks: Sequence[str] = ()

    def text(self, rows: int | None = ROWS) -> str:
        """The whole as lines of text, of the table at most so many rows; None shows all.

        >>> print(Overview("Two layers", [["layer", "rate"], ["conv", "0.25"], ["head", "0.5"]], ["Fine."]).text())
        Two layers
        layer  rate
        conv   0.25
        head    0.5
        Fine.
        """
        cells, left = self._shown(rows)
        table = [laid_out(cells)] if cells else []
        return "\n".join([_printable(self.title), *table, *left, *map(_printable, self.remarks)])

    def html(self) -> str:
        """The same as a table of HTML, with all text escaped and nothing that runs.

        >>> Overview("A <layer>").html()
        '<div><div>A &lt;layer&gt;</div></div>'
        """
        cells, left = self._shown(ROWS)
        parts = [f"<div>{escape(_printable(self.title))}</div>"]
        if cells:
            rows = [_row("th", cells[0]), *(_row("td", row) for row in cells[1:])]
            parts.append(f'<table style="{STYLE}">{"".join(rows)}</table>')
        parts += [f"<div>{escape(text)}</div>" for text in (*left, *map(_printable, self.remarks))]
        return f"<div>{''.join(parts)}</div>"

    def _shown(self, most: int | None) -> tuple[list[list[str]], list[str]]:
        """The rows that are shown, and what to say of the others."""
        head, *rows = [list(map(_one_line, row)) for row in self.cells] or [[]]
        if not rows:
            return [], []
        left = 0 if most is None else len(rows) - most
        return [head, *rows[:most]], [f"... and {left} more"] if left > 0 else []


def _row(tag: str, cells: Sequence[str]) -> str:
    first, *others = (escape(cell) for cell in cells)
    return (
        f'<tr><{tag} style="text-align:left">{first}</{tag}>'
        + "".join(f'<{tag} style="text-align:right">{cell}</{tag}>' for cell in others)
        + "</tr>"
    )


def _one_line(cell: str) -> str:
    return cell if cell.isprintable() else "".join(held if held.isprintable() else "?" for held in cell)


def _printable(text: str) -> str:
    return "\n".join(map(_one_line, text.split("\n")))


class Displayed:
    """A value that is shown by its `overview()`, wherever it is shown."""

    def overview(self) -> Overview:
        """What is to be shown; it raises no error, and reads nothing that is not at hand."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.overview().text()

    def _repr_html_(self) -> str:
        return self.overview().html()


def laid_out(cells: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of text, so many of them to the left and the others to the right.

    >>> print(laid_out([["layer", "kind", "rate"], ["conv", "Conv2d", "0.25"]], left=2))
    layer  kind    rate
    conv   Conv2d  0.25
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def amount(count: int, what: str) -> str:
    """A number of things.

    >>> amount(1, "layer"), amount(1200, "layer")
    ('1 layer', '1,200 layers')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size_of(number: float) -> str:
    """Bytes in words.

    >>> size_of(64), size_of(1536), size_of(3 * 2**30)
    ('64 B', '1.5 kB', '3.0 GB')
    """
    if number < 1024:
        return f"{number:.0f} B"
    power = min(int(math.log(number, 1024)), 4)
    return f"{number / 1024**power:.1f} {' kMGT'[power]}B"


_UNITS = {"": 1, "k": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def bytes_in(words: str) -> int | None:
    """The bytes that words speak of, 1 kB = 1024 bytes; None for other words.

    >>> bytes_in("64 MB"), bytes_in("1.5k"), bytes_in("much")
    (67108864, 1536, None)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", words)
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])
