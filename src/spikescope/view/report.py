"""The report: one file of a recording, of a run, of what health found, or of two of them side by side."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .. import analysis
from ..errors import dims
from ..files import write_whole
from ..monitor import Health
from ..recording import StoredRecording, open_recording
from .document import Document, of_folder, of_health, of_recording, read_data, show_health
from .document.privacy import without_places
from .document.shape import FORMAT
from .options import check_title, place_of
from .page import page

__all__ = ["document_of", "report"]

Source = str | os.PathLike[str] | StoredRecording | Health | Mapping[str, Any]

WORDS = 12  # lines of a comparison
CLEANED = ("title", "facts", "findings", "unjudged", "notes", "difference")
"""The parts with free text, which may quote a path."""


def report(
    source: Source,
    second: Source | None = None,
    to: str | os.PathLike[str] = "report.html",
    *,
    net: Any = None,
    health: Health | None = None,
    run: int | None = None,
    sample: int = 0,
    title: str | None = None,
    places: bool = False,
) -> Path:
    """Write one file that shows what went on: it opens in any browser, and asks the network for nothing.

    - `source`: a recording or its path, the folder of a run, what `monitor.health` gave, a report written before, or a
      document. `second`: another one to hold against it: what differs first stands first.
    - `net`: the recorded network, for the energy. `health`: of the same network while it ran, whose findings the page
      then has, in place of those that spikes alone tell.
    - `run`, `sample`: of a recording, which is shown spike by spike.
    - `title`: instead of one from the configuration. `places`: also tell paths, the name of the machine and the user,
      which else are left out, so that a report may be passed on.

    The same source gives the same bytes. `spikescope report` is this on the command line.

    >>> import tempfile
    >>> rec = spikescope.recording.in_memory({"lif": {"spike": [torch.eye(4).view(4, 1, 4)]}})
    >>> with tempfile.TemporaryDirectory() as place:
    ...     report(rec, to=f"{place}/report.html").stat().st_size < 150_000
    True
    """
    check_title("report", title or "")
    path = place_of("report", to)
    options: dict[str, Any] = {"net": net, "run": run, "sample": sample, "places": places}
    found = [document_of(source, health=health, **options)]
    if second is not None:
        found.append(document_of(second, **options))
        if all(held["source"] == "recording" for held in found):
            words = _compared(source, second)
            found[1]["difference"] = {"words": words if places else [without_places(text) for text in words]}
    if title is not None:
        found[0]["title"] = title
    write_whole(path, page(found), sync=False)
    return path


def document_of(
    source: Source,
    *,
    net: Any = None,
    health: Health | None = None,
    run: int | None = None,
    sample: int = 0,
    places: bool = False,
) -> Document:
    """All that a report of `source` shows, as plain values that JSON can hold; see `report`.

    >>> rec = spikescope.recording.in_memory({"lif": {"spike": [torch.eye(4).view(4, 1, 4)]}})
    >>> document_of(rec)["layers"][0]["rate"]
    0.25
    """
    if isinstance(source, (str, os.PathLike)):
        found = _of_path(Path(source), net, run, sample, places)
    elif isinstance(source, StoredRecording):
        found = of_recording(source, net, run, sample, places)
    elif isinstance(source, Health):
        found = of_health(source)
    elif isinstance(source, Mapping) and source.get("format") == FORMAT:
        found = cast(Document, dict(source))
    else:
        raise TypeError(
            "report takes a recording, as open_recording(path) gives it, its path, the folder of a run, what "
            f"monitor.health gave, a report or a document, but got {_kind(source)}."
        )
    if health is not None:
        if not isinstance(health, Health):
            raise TypeError(f"report: health= takes what monitor.health(net) gave, but got {_kind(health)}.")
        show_health(found, health)
    if places:
        found["configuration"] = found["configuration"] + _told(source)
    else:
        for name in CLEANED:
            found[name] = _cleaned(found[name])  # type: ignore[literal-required]
    return found


def _of_path(path: Path, net: Any, run: int | None, sample: int, places: bool) -> Document:
    if path.is_file():
        return cast(Document, read_data(path)[0])
    if not path.is_dir():
        raise FileNotFoundError(f"report: there is no {path}. Give the folder of a run or of a recording, or a report.")
    names = {entry.name for entry in path.iterdir()}
    if "config.json" in names:
        return of_folder(path, places)
    if "recording.json" in names or any(name.endswith(".records") for name in names):
        return of_recording(open_recording(path), net, run, sample, places)
    raise ValueError(
        f"report: {path} is neither the folder of a run, which has a config.json, nor a recording, which has a "
        f"recording.json. There is {', '.join(sorted(names)[:8]) or 'nothing'} in it."
    )


def _told(source: Any) -> list[list[str]]:
    """Where it was made, for who asks for it."""
    path = getattr(source, "path", source if isinstance(source, (str, os.PathLike)) else None)
    return [
        *([["folder", str(Path(path).resolve())]] if path is not None else []),
        ["machine", platform.node()],
        ["user", getpass.getuser()],
    ]


def _cleaned(held: Any) -> Any:
    if isinstance(held, str):
        return without_places(held)
    if isinstance(held, dict):
        return {key: value if key in ("layer", "labels") else _cleaned(value) for key, value in held.items()}
    return [_cleaned(value) for value in held] if isinstance(held, list) else held


def _compared(a: Source, b: Source) -> list[str]:
    """What holding the values of two recordings against each other says."""
    ours, theirs = (open_recording(held) if isinstance(held, (str, os.PathLike)) else held for held in (a, b))
    if not (isinstance(ours, StoredRecording) and isinstance(theirs, StoredRecording)):
        return []
    try:
        lines = str(analysis.compare(ours, theirs)).splitlines()
    except ValueError as error:
        return [f"The values were not compared. {error}"]
    more = [f"… and {len(lines) - WORDS} more layers."] if len(lines) > WORDS else []
    return lines[:WORDS] + more


def _kind(held: Any) -> str:
    shape = getattr(held, "shape", None)
    return f"a {type(held).__name__}{f' {dims(shape)}' if shape is not None else ''}"
