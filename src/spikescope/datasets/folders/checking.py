"""What is there of a data set: whole, half, damaged, missing; without training first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..events import StoredPath, check_inside, columns, has_column
from ..frames.integrate import in_order
from .dataset import SAMPLES, NeuromorphicDatasetFolder
from .resources import file_md5
from .storage import load_events

__all__ = ["Finding", "Report", "check"]

SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One part of a data set: where, in which state (`ok`, `missing`, `half`, `damaged`, `note`), and why."""

    part: str
    state: str
    said: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `check` found; printed, it is a line a part."""

    root: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, half or damaged."""
        return all(found.state in ("ok", "note") for found in self.findings)

    def __str__(self) -> str:
        lines = [self.root]
        for found in self.findings:
            lines.append(f"  {found.part:<36} {found.state:<8} {found.said}")
            lines += [f"    {file}" for file in found.files[:SHOWN]]
            lines += [f"    ... and {len(found.files) - SHOWN} more"] if len(found.files) > SHOWN else []
        return "\n".join(lines)


def check(root: StoredPath, dataset: Any = None, read: bool = True) -> Report:
    """Look through the folder of a data set and say what is there, what is missing, what is half or damaged.

    - `dataset`: the class, as `DVS128Gesture`, which knows the published files and the size of the sensor; None if the
      folder is to be judged alone.
    - `read`: read every sample; otherwise they are only counted, and compared by name.

    Folders of frames are compared with the events, so that one which a killed conversion left half full is found.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     print(check(place).ok, check(place).findings[0].said)
    False no events_np, and no frames
    """
    place = Path(root)
    findings = [*_published(place, dataset), *_unfinished(place)]
    events = place / "events_np"
    size = dataset.get_H_W() if isinstance(dataset, type) and issubclass(dataset, NeuromorphicDatasetFolder) else None
    load = dataset.load_events_np if size is not None else load_events
    samples = _samples(events)
    if events.is_dir():
        findings.append(_read_all("events_np", samples, lambda path: _events_fault(path, load, size), read))
    folders = [path for path in sorted(place.iterdir()) if _holds_frames(path)] if place.is_dir() else []
    for folder in folders:
        findings += _frames(folder, samples, read)
    if not events.is_dir() and not folders:
        findings.append(Finding("events_np", "missing", "no events_np, and no frames"))
    return Report(str(place), tuple(findings))


def _published(place: Path, dataset: Any) -> Iterator[Finding]:
    if dataset is None:
        return
    download = place / "download"
    needed = not any((place / name).is_dir() for name in ("extract", "events_np"))
    for name, url, md5 in dataset.resource_url_md5():
        path = download / name
        if not path.exists():
            yield Finding(f"download/{name}", "missing" if needed else "note", f"not there; from {url}, MD5 {md5}")
        elif md5 and (found := file_md5(path)) != md5:
            yield Finding(f"download/{name}", "damaged", f"its MD5 is {found}, published is {md5}")
        else:
            yield Finding(f"download/{name}", "ok", "whole" if md5 else "there; no checksum is published")


def _unfinished(place: Path) -> Iterator[Finding]:
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        if path.name.endswith(".part") and path.is_dir():
            said = "a conversion was interrupted: the next call goes on with it"
            yield Finding(path.name, "half", said)
        elif path.name.endswith(".building"):
            whose = path.name.removesuffix(".building")
            yield Finding(path.name, "half", f"SpikingJelly was interrupted: delete it and {whose}")


def _samples(folder: Path) -> dict[str, Path]:
    """The files of samples by their path in the folder, without the ending."""
    found = {}
    for held, _, files in os.walk(folder, followlinks=True):
        for file in files:
            if file.lower().endswith(SAMPLES):
                path = Path(held, file)
                found[os.fspath(path.relative_to(folder).with_suffix(""))] = path
    return dict(sorted(found.items()))


def _holds_frames(path: Path) -> bool:
    if not path.is_dir() or path.name in ("download", "extract", "events_np", "events_h5"):
        return False
    return not path.name.startswith(".") and not path.name.endswith(".part") and bool(_samples(path))


def _read_all(part: str, samples: dict[str, Path], fault: Callable[[Path], str], read: bool) -> Finding:
    if not samples:
        return Finding(part, "half", "no samples in it: delete it, and it is made anew")
    if not read:
        return Finding(part, "ok", f"{len(samples)} samples, not read")
    faults = {path: said for path in samples.values() if (said := fault(path))}
    told = {path: said if str(path) in said else f"{path}: {said}" for path, said in faults.items()}
    bad = tuple(told[path] for path, said in faults.items() if not said.startswith("note: "))
    notes = tuple(told[path] for path, said in faults.items() if said.startswith("note: "))
    if bad:
        return Finding(part, "damaged", f"{len(bad)} of {len(samples)} samples: delete them, {_again(part)}", bad)
    return Finding(part, "note" if notes else "ok", f"{len(samples)} samples, all readable", notes)


def _again(folder: str) -> str:
    """How what is missing in a folder is made, without making all of it again."""
    return f"rename {folder} to {folder}.part, and the next call makes what is missing"


def _events_fault(path: Path, load: Callable[[Any], Any], size: Any) -> str:
    try:
        t, x, y, _ = columns(load(path))
        if size is not None:
            check_inside("x", x, size[1])
            check_inside("y", y, size[0])
    except (ValueError, OSError) as error:
        return str(error)
    if not len(t):
        return "has no events, and cannot become frames"
    return "" if in_order(t) else "note: events are not in order of time"


def _frames(folder: Path, events: dict[str, Path], read: bool) -> Iterator[Finding]:
    frames = _samples(folder)
    by_duration = folder.name.startswith("duration_")
    names = {name.rpartition("_")[0] if by_duration else name for name in frames}
    if absent := sorted(set(events) - names):
        said = f"{len(names)} of {len(events)} samples: {_again(folder.name)}"
        yield Finding(folder.name, "half", said, tuple(absent))
    found = _read_all(folder.name, frames, _frames_fault, read)
    if found.state != "ok" or not absent:
        yield found


def _frames_fault(path: Path) -> str:
    try:
        held = load_events(path)
    except (ValueError, OSError) as error:
        return str(error)
    if not isinstance(held, dict) or not has_column(held, "frames"):
        return "has no 'frames'"
    return "" if held["frames"].ndim in (2, 4) and len(held["frames"]) else f"frames of shape {held['frames'].shape}"
