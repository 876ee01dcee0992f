"""Elements of HTML and SVG as text, and numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from ..document.shape import Number, value

__all__ = ["clean", "labels_of", "percent", "place", "short", "tag", "ticks"]

VOID = frozenset({"input", "meta", "br"})


def clean(text: str) -> str:
    r"""Text as HTML holds it: escaped, and as `?` what cannot be printed, or turns the direction of reading.

    >>> print(clean("<b>\x00\u202e"))
    &lt;b&gt;??
    """
    return escape("".join(one if one.isprintable() or one == "\n" else "?" for one in text))


def tag(name: str, /, *content: str, **attributes: str | float | bool | None) -> str:
    """An element; `content` is HTML already, the attributes are text. An attribute that is None is left out.

    >>> tag("rect", x=0.5, data_tip='a "tip"', class_="c1")
    '<rect x=".5" data-tip="a &quot;tip&quot;" class="c1"></rect>'
    """
    parts = []
    for key, held in attributes.items():
        if held is None or held is False:
            continue
        label = key.rstrip("_").replace("_", "-") if key not in ("viewBox", "preserveAspectRatio") else key
        if held is True:
            parts.append(f" {label}")
        else:
            parts.append(f' {label}="{clean(held) if isinstance(held, str) else place(held)}"')
    opened = f"<{name}{''.join(parts)}>"
    return opened if name in VOID else f"{opened}{''.join(content)}</{name}>"


def place(held: float) -> str:
    """A coordinate in at most four digits.

    >>> place(0.25), place(12.0), place(123.456), place(-0.0001)
    ('.25', '12', '123.5', '0')
    """
    text = f"{held:.2f}" if abs(held) < 100 else f"{held:.1f}"
    text = text.rstrip("0").rstrip(".")
    text = text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
    return "0" if text in ("", "-0", "-") else text


def short(held: Number) -> str:
    """A number in three digits.

    >>> short(0.123456), short(1234567), short("nan"), short(None), short(3.2e-7), short(12345)
    ('0.123', '1.23 M', 'not a number', 'not measured', '3.2e-7', '12,345')
    """
    if held is None:
        return "not measured"
    number = value(held)
    if math.isnan(number):
        return "not a number"
    if math.isinf(number):
        return "infinite" if number > 0 else "minus infinite"
    size = abs(number)
    if size == 0:
        return "0"
    if size >= 1e5:
        for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if size >= factor:
                return f"{number / factor:.3g} {unit}" if number / factor < 1000 else f"{number:.2e}".replace("e+", "e")
    if size >= 1000:
        return f"{number:,.0f}"
    if size >= 1e-3:
        return f"{number:.3g}"
    mantissa, power = f"{number:.2g}".split("e") if "e" in f"{number:.2g}" else f"{number:.1e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"


def percent(held: Number) -> str:
    """A share in per cent.

    >>> percent(0.123), percent(1), percent(0.00012)
    ('12.3 %', '100 %', '0.012 %')
    """
    number = value(held)
    return f"{short(float(f'{100 * number:.3g}'))} %" if math.isfinite(number) else short(held)


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most so many.

    >>> ticks(0, 1), ticks(1, 20, whole=True), ticks(3, 3)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [5.0, 10.0, 15.0, 20.0], [3])
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    base = 10.0 ** math.floor(math.log10(rough))
    steps = [base * factor for factor in (1, 2, 2.5, 5, 10, 20) if not whole or (base * factor).is_integer()]
    step = next((held for held in steps or [1.0] if (high - low) / held <= most - 1 + 1e-9), (steps or [1.0])[-1])
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    found = []
    while first * step <= high + 1e-9 * step:
        found.append(round(first * step, 12))
        first += 1
    return found[:50]


def labels_of(marks: Sequence[float], share: bool = False) -> list[str]:
    """The words of the marks of an axis, shares in per cent; with more digits where three would move one.

    >>> labels_of([0.5, 0.75]), labels_of([1.384, 1.386, 1.388]), labels_of([0.9982, 0.9984], share=True)
    (['0.5', '0.75'], ['1.384', '1.386', '1.388'], ['99.82 %', '99.84 %'])
    """
    held = [100 * mark for mark in marks] if share else list(marks)
    unit, near = " %" if share else "", (max(held, default=0.0) - min(held, default=0.0)) / 1000
    if len(held) < 2 or all(abs(float(f"{mark:.{2 if abs(mark) < 1e-3 else 3}g}") - mark) <= near for mark in held):
        return [f"{short(mark)}{unit}" for mark in held]
    places = next((count for count in range(15) if all(abs(round(mark, count) - mark) <= near for mark in held)), 15)
    return [f"{mark:,.{places}f}{unit}" for mark in held]


def finite(values: Iterable[Number]) -> list[float]:
    """Those that are numbers.

    >>> finite([1, None, "nan", 2])
    [1.0, 2.0]
    """
    return [held for held in map(value, values) if math.isfinite(held)]
