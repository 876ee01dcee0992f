"""`spikescope watch`: the page of a run or a recording, as it grows."""

from __future__ import annotations

import time
from pathlib import Path

from ...files import write_whole
from ..options import place_of
from ..page import page
from .follow import Follower
from .front import View

__all__ = ["watch"]


def watch(
    path: Path,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    allow_remote: bool = False,
    report: Path | None = None,
) -> None:
    """Show a path in a browser until Ctrl-C, and then write the `report` that was asked for."""
    place = None if report is None else place_of("watch", report)
    source = Follower(path)
    view = View(source, port, host, allow_remote, quiet=False)
    try:
        while view.error is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        source.look()
        found = source.document()
        assert found is not None  # the last one is always kept
        made = page([found])
        view.end(made)
    if place is not None:
        write_whole(place, made)
    if view.error is not None:
        raise view.error
