"""The head of the page: a few facts, then what is wrong, its causes first."""

from __future__ import annotations

from collections.abc import Sequence

from ...display import amount
from ..document.shape import Document, Finding
from .bars import evidence
from .markup import clean, short, tag

__all__ = ["facts", "findings"]

MOST = 100  # causes that are shown, and consequences of each


def facts(document: Document) -> str:
    """Numbers that say where the network stands."""
    made = [tag("div", tag("dt", clean(name)), tag("dd", clean(text))) for name, text in document["facts"]]
    return tag("dl", *made, class_="facts") if made else ""


def findings(document: Document, key: str = "") -> str:
    """Each cause with its number, threshold, evidence and the line to change; what follows from it stands within."""
    found = document["findings"]
    made = [_finding(held, f"{key}finding-{at + 1}", at == 0) for at, held in enumerate(found[:MOST])]
    if len(found) > MOST:
        made.append(
            tag("p", f"… and {amount(len(found) - MOST, 'finding')} more, in the data of this page.", class_="note")
        )
    if not found:
        words = (
            "No findings." if document["judged"] else "Nothing was judged: the network was not watched for findings."
        )
        made.append(tag("p", clean(words), class_="none" if document["judged"] else "note"))
    open_questions = [tag("li", clean(text)) for text in document["unjudged"]]
    if open_questions:
        made.append(tag("div", tag("h3", "Not judged"), tag("ul", *open_questions), class_="unjudged"))
    return "".join(made)


def _finding(held: Finding, name: str, opened: bool) -> str:
    where = held["layer"] or "(network)"
    head = tag(
        "summary", tag("b", clean(held["kind"])), " ", tag("span", clean(where), class_="where"), " ", _number(held)
    )
    parts = [_words(held), evidence(held), *_consequences(held["consequences"])]
    return tag("details", head, *parts, class_="finding", id=name, open=opened)


def _words(held: Finding) -> str:
    seen = ", ".join(filter(None, (held["words"], held["place"])))
    code = tag("pre", tag("code", clean(held["line"]))) if held["line"] else ""
    return (tag("p", clean(seen)) if seen else "") + tag("p", clean(held["advice"]), class_="advice") + code


def _number(held: Finding) -> str:
    return tag("span", clean(f"{short(held['number'])}, threshold {short(held['threshold'])}"), class_="number")


def _consequences(held: Sequence[Finding]) -> list[str]:
    if not held:
        return []
    rows = [
        tag("li", tag("b", clean(one["kind"])), " ", clean(one["layer"] or "(network)"), " ", _number(one))
        for one in held[:MOST]
    ]
    more = f", of which {MOST} are shown" if len(held) > MOST else ""
    words = f"{amount(len(held), 'consequence')} of it{more}"
    return [tag("div", tag("h4", clean(words)), tag("ul", *rows), class_="consequences")]
