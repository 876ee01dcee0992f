"""One prepared command for a machine with a GPU and no network: python -m bench.gpu [--part tests,rows,step,ranks].

Each part is a process of its own with an end in time, so that one that crashes or hangs takes no other with it. After
each its table is printed and bench/results/gpu/<part>-<date>-<card>.json is written. The exit status is that of the
tests. With --rehearse the parts run small, on the CPU and in Triton's interpreter: no result, but every line is run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = ("tests", "rows", "step", "ranks")
LIMIT = 170  # seconds a part


def main() -> int:
    """Run the parts asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--part", default=",".join(PARTS), help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU: to see that the command works")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench" / "results" / "gpu", help="the folder of the results"
    )
    given = parser.parse_args()
    parts = given.part.split(",")
    if unknown := sorted({*parts} - {*PARTS}):
        parser.error(f"no parts are called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    status = 0
    for part in parts:
        code = _run(part, given.rehearse, given.output)
        status = code if part == "tests" else status
    return status


def _run(part: str, rehearse: bool, folder: Path) -> int:
    """One part in a process of its own; its rows come through a file, line by line, and survive its end."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        told = Path(work) / "told.jsonl"
        command = [sys.executable, "-m", f"bench.gpu.{part}", str(told), *(["--rehearse"] if rehearse else [])]
        try:
            code = subprocess.run(command, cwd=ROOT, env=environment(rehearse), timeout=LIMIT, check=False).returncode
            end = "" if code == 0 else f"ended with status {code}"
        except subprocess.TimeoutExpired:
            code, end = 1, f"stopped after {LIMIT} s"
        lines = told.read_text().splitlines() if told.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    seconds = round(time.monotonic() - start, 1)
    info = next((row for row in rows if row.get("kind") == "info"), {})
    rows = [row for row in rows if row.get("kind") != "info"]
    report = {"part": part, "rehearsed": rehearse, "seconds": seconds, "end": end or "whole", **info, "rows": rows}
    folder.mkdir(parents=True, exist_ok=True)
    card = re.sub(r"[^a-z0-9]+", "-", str(info.get("gpu") or "cpu").lower()).strip("-")
    path = folder / f"{part}-{datetime.now(UTC):%Y-%m-%d}-{card}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n== {part}: {len(rows)} rows, {seconds} s, {report['end']}; written to {path}\n{_table(rows)}", flush=True)
    return code


def environment(rehearse: bool) -> dict[str, str]:
    """The package and the wheels that were carried along on the path; Triton on the GPU, or in its interpreter."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""), *_carried()]
    own = {"TRITON_INTERPRET": "1" if rehearse else "0", "SPIKESCOPE_REHEARSE": "1" if rehearse else "0"}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **own}


def _carried() -> list[str]:
    """The folder with what is in the wheels under wheels/, which no installer has to see; nothing without wheels."""
    wheels, folder = sorted((ROOT / "wheels").glob("*.whl")), ROOT / "build" / "wheels"
    for wheel in wheels:
        if not (folder / f".{wheel.name}").exists():
            with zipfile.ZipFile(wheel) as held:
                held.extractall(folder)
            (folder / f".{wheel.name}").touch()
    return [str(folder)] if wheels else []


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as aligned text, under the names of all their entries."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)[:100]


if __name__ == "__main__":
    sys.exit(main())
