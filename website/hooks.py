"""Hooks of mkdocs: formulas become MathML while the site is built, so that reading them needs no script."""

from __future__ import annotations

import html
import logging
import re
from functools import cache
from typing import Any

from latex2mathml.converter import convert

log = logging.getLogger("mkdocs.spikescope")

FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)


@cache
def mathml(formula: str, display: str) -> str:
    """The MathML of a formula; ValueError names what the converter does not know, which it would print as it is."""
    made = convert(re.sub(r"\\arg(?![a-z])", r"\\mathrm{arg}\\,", formula), display=display)  # has no \arg
    if unknown := re.search(r"\\[A-Za-z]+", html.unescape(made)):
        raise ValueError(f"{unknown[0]} in the formula {formula!r} has no MathML")
    return made


def on_page_content(content: str, *, page: Any, config: Any, files: Any) -> str:
    """Put MathML in place of the formulas that the Markdown extension has marked."""

    def put(found: re.Match[str]) -> str:
        kind, formula = found[1], html.unescape(found[2]).strip()
        try:
            return mathml(formula, "block" if kind == "div" else "inline")
        except Exception as error:
            log.warning("%s: %s", page.file.src_uri, error)
            return found[0]

    return FORMULA.sub(put, content)
