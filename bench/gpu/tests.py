"""Part (a): the tests of tests/gpu, dealt out to several processes; a row for each that did not pass, and a count."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from .tell import Part

ROOT = Path(__file__).parents[2]
LIMIT = 155  # seconds, so that what was seen until then is told
LINE = re.compile(r"^(tests/gpu/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)")
WHY = re.compile(r"^(?:FAILED|ERROR) (tests/gpu/\S+::.+?) - (.*)$")


def main() -> int:
    """The status of pytest: 0 if all shards passed, and some test ran."""
    part = Part()
    shards = part.size(min(14, max(1, (os.cpu_count() or 2) - 2)), 1)
    with tempfile.TemporaryDirectory() as work:
        logs = [Path(work) / f"{shard}.txt" for shard in range(shards)]
        codes = _run(logs)
        texts = [log.read_text(errors="replace") for log in logs]
    counts: Counter[str] = Counter()
    for shard, (text, code) in enumerate(zip(texts, codes, strict=True)):
        outcomes = dict(found.groups() for found in map(LINE.match, text.splitlines()) if found)
        why = dict(found.groups() for found in map(WHY.match, text.splitlines()) if found)
        counts.update(outcomes.values())
        for name, outcome in outcomes.items():
            if outcome in ("FAILED", "ERROR"):
                part.row(test=name, outcome=outcome, why=why.get(name, "")[:300])
        if code not in (0, 1):
            part.row(test=f"shard {shard}", outcome=f"status {code}", why=text.strip()[-300:])
        if code:
            print(text[-6000:], flush=True)
    ran = counts["PASSED"] + counts["FAILED"] + counts["ERROR"]
    part.row(test="all", outcome=", ".join(f"{n} {name.lower()}" for name, n in sorted(counts.items())) or "none ran")
    print(f"{counts['PASSED']} passed, {counts['FAILED'] + counts['ERROR']} failed, {counts['SKIPPED']} skipped")
    return max(codes) if ran else 5


def _run(logs: list[Path]) -> list[int]:
    """The status of pytest in each shard; one that is stopped has 124."""
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-W", "default", "-m", "gpu", "tests/gpu"]
    started = []
    for shard, log in enumerate(logs):
        environment = {**os.environ, "SPIKESCOPE_SHARD": f"{shard}/{len(logs)}", "COLUMNS": "400"}
        with log.open("w") as out:
            run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        started.append(run)
    end = time.monotonic() + LIMIT
    codes = []
    for run in started:
        try:
            codes.append(run.wait(max(0.1, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            codes.append(124)
    return codes


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
