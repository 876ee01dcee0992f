"""The page of benchmarks: the newest results of `make bench`, as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

from .words import say

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def newest() -> Mapping[str, Any]:
    """The newest results."""
    return json.loads(max(RESULTS.glob("*.json")).read_text())


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
            f"{_number(row['ours'])} {row['unit']}" if row["ours"] is not None else row["note"],
            row["rival"],
            _number(row["theirs"]),
            _ratio(row["ratio"]),
            row["agreement"],
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def benchmarks(language: str) -> str:
    """The page of benchmarks."""
    results = newest()
    machine, versions = results["machine"], results["versions"]
    lines = [f"# {say('benchmarks', language)}", "", say("benchmarks intro", language), ""]
    lines += [
        f"{say('machine', language)}: {machine['processor']}, {machine['cores']} cores, {machine['vectors']}, load "
        f"{machine['load']}; {results['date']}; `{results['command']}`; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        f"![{say('benchmarks says', language)}](../images/bench.png)",
    ]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in results["rows"]:
        groups.setdefault(row["group"], []).append(row)
    for group, rows in groups.items():
        lines += ["", f"## {group} {{#{group}}}", *_rows(rows, language)]
    return "\n".join(lines) + "\n"
