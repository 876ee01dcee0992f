"""Timing that is fair to all: contenders take turns, what they compute is compared first, medians are reported."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikescope

__all__ = [
    "Agreement",
    "Options",
    "Row",
    "added",
    "agreement",
    "as_json",
    "compete",
    "measure",
    "run_info",
    "run_module",
    "seconds",
    "subprocess_json",
    "table",
    "thread_seconds",
    "versus",
]

ROOT = Path(__file__).parent.parent
FLIPPED = 1e-4  # share of spikes that may differ: other libraries round differently at the threshold
REAL = 1e-5  # relative difference of outputs that are no spikes: functions such as tanh round differently
GRADIENT = 1e-2  # relative difference of gradients: a flipped spike changes those of its neuron


@dataclass(frozen=True)
class Options:
    """What the command line says about how long to measure."""

    quick: bool = False
    rounds: int = 15
    seconds: float = 12.0  # at most, for one comparison
    least: float = 2.0  # seconds for one comparison, where 200 rounds take as long

    def size(self, full: int, quick: int) -> int:
        """`full`, or `quick` in a smoke run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """One line of the report: a measure of ours, and of one rival if there is one."""

    group: str
    case: str
    measure: str
    unit: str
    ours: float | None
    rival: str = ""
    theirs: float | None = None
    ratio: float | None = None
    agreement: str = ""
    note: str = ""


@dataclass(frozen=True)
class Agreement:
    """Whether two contenders computed the same, and in which words to say so."""

    same: bool
    words: str


def agreement(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Agreement:
    """Compare outputs (the first tensor) and gradients: spikes by the share that differs, real numbers relatively."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(ours, theirs, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return Agreement(False, "shapes differ")
    if all(torch.equal(a, b) for a, b in pairs):
        return Agreement(True, "equal")
    if torch.equal(pairs[0][0], pairs[0][0].round()):
        off, allowed = (pairs[0][0] != pairs[0][1]).double().mean().item(), FLIPPED
        words = f"{off:.1e} of spikes differ" if off else "same spikes"
    else:
        off, allowed = _relative(*pairs[0]), REAL
        words = f"outputs differ by {off:.0e}" if off else "same outputs"
    relative = max((_relative(a, b) for a, b in pairs[1:]), default=0.0)
    if pairs[1:]:
        words += f", gradients by {relative:.0e}"
    return Agreement(off <= allowed and relative <= GRADIENT, words)


def _relative(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).norm() / a.double().norm().clamp_min(1e-30)).item()


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Wall-clock time of one call, with the device's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def thread_seconds() -> dict[int, float]:
    """Seconds of a processor that each other thread of Python has taken, by its identifier."""
    others = [held.ident for held in threading.enumerate() if held is not threading.current_thread()]
    return {ident: time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in others if ident is not None}


def added(ratios: Sequence[float]) -> tuple[float, str]:
    """Percent that the median of the ratios is above 1, and a note: by how much it may be off, and their quartiles."""
    low, middle, high = (100 * ratio - 100 for ratio in statistics.quantiles(ratios, n=4))
    off = 0.93 * (high - low) / len(ratios) ** 0.5  # standard error of a median, if the ratios scatter normally
    return middle, f"+-{off:.1f}, quartiles {low:.1f} and {high:.1f}"


def compete(contenders: Mapping[str, Callable[[], Any]], options: Options) -> dict[str, float]:
    """Median seconds of each contender, measured in turns after a warm-up."""
    repeats = {}
    for name, work in contenders.items():
        work()
        taken = min(seconds(work, 1) for _ in range(4))  # the first of them may still prepare something
        repeats[name] = max(1, min(1000, int(2e-3 / max(taken, 1e-9))))
    whole = sum(seconds(work, repeats[name]) * repeats[name] for name, work in contenders.items())
    wanted = max(options.rounds, min(200, int(options.least / whole)))
    rounds = 3 if options.quick else max(3, min(wanted, int(options.seconds / whole)))
    taken_by: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            taken_by[name].append(seconds(work, repeats[name]))
    return {name: statistics.median(taken) for name, taken in taken_by.items()}


def versus(
    group: str,
    case: str,
    measure: str,
    unit: str,
    values: Mapping[str, float],
    agreements: Mapping[str, Agreement],
    note: str = "",
) -> list[Row]:
    """One row for each rival in `agreements`; no ratio where the outputs disagree. `values` has ours as `'ours'`."""
    ours, rows = values["ours"], []
    for rival, found in agreements.items():
        theirs = values.get(rival)
        ratio = theirs / ours if theirs is not None and found.same else None
        rows.append(Row(group, case, measure, unit, ours, rival, theirs, ratio, found.words, note))
    return rows or [Row(group, case, measure, unit, ours, note=note)]


def measure(
    group: str,
    case: str,
    what: str,
    contenders: Mapping[str, Callable[[], Any]],
    agreements: Mapping[str, Agreement],
    options: Options,
    note: str = "",
) -> list[Row]:
    """Time contenders that agree, and make the rows in milliseconds, or in copies where one is called `'copy'`."""
    timed = {name: work for name, work in contenders.items() if name not in agreements or agreements[name].same}
    seconds = compete(timed, options)
    if "copy" not in seconds:
        return versus(group, case, what, "ms", {k: s * 1e3 for k, s in seconds.items()}, agreements, note)
    copy = seconds.pop("copy")
    note = f"a copy takes {copy * 1e3:.2f} ms" + (f"; {note}" if note else "")
    return versus(group, case, what, "copies", {k: s / copy for k, s in seconds.items()}, agreements, note)


def run_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What `python -m module arguments` printed; an error carries its own text."""
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def subprocess_json(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """The last line that such a process printed, as JSON."""
    return json.loads(run_module(module, *arguments, environment=environment).strip().splitlines()[-1])


class Talking:
    """A process of such a module that goes on: it tells a line of JSON, and another one each time it is asked."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self._line()

    def ask(self) -> Any:
        """What it tells next."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """End it: there is nothing more to be asked."""
        self._process.communicate()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # what a library prints
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended with status {self._process.wait()}")
        return json.loads(line)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """The commit of the source measured, with a mark where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def run_info(arguments: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, command and date."""
    packages = ("torch", "spikingjelly", "snntorch", "norse", "sinabs")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench", *arguments]),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
            "load": round(os.getloadavg()[0], 2),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: _version(name) for name in packages}
        | {"spikescope": f"{spikescope.__version__} ({_commit()})"},
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("case", "measure", "unit", "ours", "rival", "theirs", "ratio", "agreement", "note")
    lines = [head]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}x"
        numbers = (_number(row.ours), row.rival, _number(row.theirs), ratio)
        lines.append((row.case, row.measure, row.unit, *numbers, row.agreement, row.note))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def as_json(info: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The whole report as text for a file."""
    return json.dumps({**info, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
