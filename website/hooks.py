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
ALIGNED = re.compile(r"\\(?:begin|end)\{aligned\}")  # which the converter does not know
TOKEN = re.compile(r"(\\(?:begin|end)\{\w+\}|\\(?:left|right)(?![a-z])|\\\\|\\qquad|\\quad(?=\s*\\text)|\\[{}]|[{}])")


@cache
def mathml(formula: str, display: str) -> str:
    """The MathML of a formula; ValueError names what the converter does not know, which it would print as it is."""
    made = convert(re.sub(r"\\arg(?![a-z])", r"\\mathrm{arg}\\,", formula), display=display)  # has no \arg
    if unknown := re.search(r"\\[A-Za-z]+|(?<=>)&(?=<)", html.unescape(made)):
        raise ValueError(f"{unknown[0]} in the formula {formula!r} has no MathML")
    return made


def rows(formula: str) -> list[list[str]]:
    """The lines of a formula, each in the parts that a wide space sets apart: by itself a browser breaks none."""
    bare = ALIGNED.sub("", formula)
    lines, depth = [[""]], 0
    for piece in TOKEN.split(formula if bare == formula else bare.replace("&", "")):
        depth += piece in ("{", r"\left") or piece.startswith(r"\begin{")
        depth -= piece in ("}", r"\right") or piece.startswith(r"\end{")
        if depth or piece not in (r"\\", r"\qquad", r"\quad"):
            lines[-1][-1] += piece
        elif piece == r"\\":
            lines.append([""])
        else:
            lines[-1].append("")
    return [[part.strip() for part in line if part.strip()] for line in lines]


def block(formula: str) -> str:
    """A formula on lines of its own, whose parts go to the next line where the page is narrow."""
    lines = ("".join(mathml(part, "block") for part in row) for row in rows(formula))
    return "".join(f'<div class="formula">{line}</div>' for line in lines)


def on_post_template(output_content: str, *, template_name: str, config: Any) -> str:
    """Have the page of what is not there link from its own folder, where no address says what the root is."""
    if template_name != "404.html" or config.site_url:
        return output_content
    return re.sub(r'(=|: |\()"/+', r'\1"./', output_content)  # of tags, and of what the theme's script is told


def on_page_content(content: str, *, page: Any, config: Any, files: Any) -> str:
    """Put MathML in place of the formulas that the Markdown extension has marked."""

    def put(found: re.Match[str]) -> str:
        kind, formula = found[1], html.unescape(found[2]).strip()
        try:
            return block(formula) if kind == "div" else mathml(formula, "inline")
        except Exception as error:
            log.warning("%s: %s", page.file.src_uri, error)
            return found[0]

    return FORMULA.sub(put, content)
