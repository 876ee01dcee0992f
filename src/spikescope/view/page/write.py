"""The whole page as text: one file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ..document.shape import Document
from ..document.text import DATA, json_of
from .differences import differences
from .findings import facts
from .markup import clean, tag
from .sections import sections, title_of

__all__ = ["page"]


def page(documents: Sequence[Document], *, live: str = "") -> str:
    """HTML of one document, or of two side by side. The same documents give the same bytes.

    - `live`: script of a view that goes on, which may then ask for what comes from the same address.

    >>> from spikescope.view.document import empty
    >>> page([empty("live", "<b>A network</b>")])[:15]
    '<!doctype html>'
    """
    style, script = _file("page.css"), _file("page.js") + live
    policy = [
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        *(["connect-src 'self'"] if live else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    title = " against ".join(held["title"] for held in documents)
    body = sections(documents)
    apart = differences(documents)
    links = [tag("a", clean(title_of(name, documents, short=True)), href=f"#{name}") for name in body]
    links = [tag("a", "What differs", href="#differences"), *links] if apart else links
    controls = tag(
        "div",
        tag("input", type="search", id="search", placeholder="layer", aria_label="Show layers of this name",
            autocomplete="off"),
        tag("button", "Dark", type="button", id="theme", aria_label="Dark or light"),
        tag("button", "Print", type="button", id="print"),
        class_="controls", hidden=True,
    )  # fmt: skip
    heads = [tag("div", tag("p", clean("AB"[at] if apart else ""), class_="whose") if apart else "",
                 tag("p", clean(held["title"]), class_="whose") if apart else "", facts(held))
             for at, held in enumerate(documents)]  # fmt: skip
    top = tag("header", tag("div", tag("h1", clean(title)), controls, class_="bar"), tag("div", *heads, class_="pair"),
              tag("nav", *links, aria_label="Parts of this page"))  # fmt: skip
    data = tag("script", json_of(list(documents)), type="application/json", id=DATA)
    head = "".join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content="; ".join(policy)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", clean(f"{title} · spikescope")),
            f"<style>{style}</style>",
        ]
    )
    end = tag("footer", clean(_signed(documents)))
    whole = f"{top}{apart}<main>{''.join(body.values())}</main>{end}"
    shown = tag("div", id="tip", role="status", hidden=True)
    body_of = f"{whole}{shown}\n{data}\n<script>{script}</script>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body_of}</body></html>\n'


def _signed(documents: Sequence[Document]) -> str:
    made = sorted({text for held in documents for name, text in held["versions"] if name == "spikescope"})
    maker = f"spikescope {' and '.join(made)}" if made else "spikescope"
    return f"Made by {maker}. This page holds its data, and asks the network for nothing."


@cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A text as a Content-Security-Policy allows it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
