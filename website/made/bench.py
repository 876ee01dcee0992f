"""The page of benchmarks: the newest results of `make bench` and of `make gpu`, as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

from .words import say

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def newest() -> dict[str, Mapping[str, Any]]:
    """The newest results that have rows of a group, of all that were measured with every core."""
    found: dict[str, Mapping[str, Any]] = {}
    read = (json.loads(path.read_text()) for path in (*RESULTS.glob("*.json"), *RESULTS.glob("parts/*.json")))
    for results in sorted(read, key=lambda results: results["date"]):
        if results["machine"]["threads"] == results["machine"]["cores"]:
            found |= {row["group"]: results for row in results["rows"] if row["ours"] is not None}
    return found


def rows_of(group: str, results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a group that were measured."""
    return [row for row in results["rows"] if row["group"] == group and row["ours"] is not None]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    if not value:
        return ""
    width = min(100.0, 100 * log(max(value, 1.0), 20))
    return f'<span class="bar" style="--w:{width:.0f}%">{value:.2f}</span>'


def _rows(rows: list[Mapping[str, Any]], language: str) -> list[str]:
    heads = ("case", "measure", "ours", "rival", "theirs", "ratio", "agreement")
    lines = ["", f"| {' | '.join(say(head, language) for head in heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = (
            row["case"],
            row["measure"],
            f"{_number(row['ours'])}\u00a0{row['unit']}",
            row["rival"],
            _number(row["theirs"]),
            _ratio(row["ratio"]),
            row["agreement"],
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def _where(results: Mapping[str, Any], language: str) -> str:
    """On what machine, when and by what command rows were measured."""
    machine, versions = results["machine"], results["versions"]
    return (
        f"{say('machine', language)}: {machine['processor']}, {machine['cores']} cores, {machine['vectors']}, load "
        f"{machine['load']}; {results['date']}; `{results['command']}`; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def benchmarks(language: str) -> str:
    """The page of benchmarks."""
    lines = [f"# {say('benchmarks', language)}", "", say("benchmarks intro", language), ""]
    lines += [f"![{say('benchmarks says', language)}](../images/bench.png)"]
    for group, results in sorted(newest().items()):
        lines += ["", f"## {group} {{#{group}}}", "", _where(results, language)]
        lines += _rows(rows_of(group, results), language)
    return "\n".join([*lines, *_on_a_gpu(language)]) + "\n"


PARTS = {  # of `make gpu`: the columns, of those that its rows have
    "step": ("case", "whose", "watched", "event_ms", "host_ms", "peak_mb", "watching_percent", "ratio"),
    "rows": (
        "case",
        "what",
        "copies",
        "forward_copies",
        "backward_copies",
        "event_ms",
        "host_ms",
        "rival_event_ms",
        "ratio",
    ),
}


def _on_a_gpu(language: str) -> list[str]:
    """The newest results of `make gpu`; nothing where there are none."""
    lines: list[str] = []
    for part, columns in PARTS.items():
        found = max((RESULTS / "gpu").glob(f"{part}-*.json"), default=None)
        if found is None:
            continue
        held = json.loads(found.read_text())
        rows = [row for row in held["rows"] if any(row.get(name) for name in columns[1:])]
        rows = _beside_the_rival([row for row in rows if "whose" in row]) if part == "step" else rows
        names = [name for name in columns if any(row.get(name) is not None for row in rows)]
        lines += ["", f"## {say('gpu ' + part, language)} {{#gpu-{part}}}", ""]
        lines += [f"{held['gpu']}, torch {held['torch']}, Triton {held['triton']}, Python {held['python']}.", ""]
        lines += [f"| {' | '.join(say(name, language) for name in names)} |", "|" + "---|" * len(names)]
        lines += [f"| {' | '.join(_cell(name, row.get(name)) for name in names)} |" for row in rows]
    return lines


def _beside_the_rival(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps with how much faster they are than the rival's of the same case."""
    theirs = {row["case"]: row["event_ms"] for row in rows if row["whose"] == "SpikingJelly" and "event_ms" in row}
    return [
        row | {"ratio": None if row["whose"] == "SpikingJelly" else theirs.get(row["case"], 0.0) / row["event_ms"]}
        for row in rows
        if "event_ms" in row
    ]


def _cell(name: str, value: Any) -> str:
    if name == "ratio":
        return _ratio(value)
    return _number(value) if isinstance(value, float) else str(value or "")
