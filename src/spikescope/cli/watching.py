"""The command `watch`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..files import OutputError

__all__ = ["add_watch"]

_EPILOG = """examples:
  spikescope watch runs/train-20260301-101500 -o report.html
  ssh -L 8000:127.0.0.1:8000 machine spikescope watch run.spk --port 8000      then the printed address, here

The page is for this machine alone, and for whoever has the printed address, which holds a token. Nothing can be
changed by it. Ctrl-C ends it, and writes the report.

exit status:
  0  ended by Ctrl-C
  2  there is nothing to show, the port is taken, or the report could not be written"""


def add_watch(commands: Any) -> None:
    """Add the command `watch`."""
    made = commands.add_parser(
        "watch",
        help="show a run or a recording in a browser while it grows",
        description="Show the page of a run or a recording in a browser, and again as its files change.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=_watch)
    made.add_argument("source", type=Path, metavar="RUN_OR_RECORDING", help="the folder of a run or a recording")
    made.add_argument("--port", type=int, metavar="N", help="the port (a free one)")
    made.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (127.0.0.1)")
    made.add_argument("--allow-remote", action="store_true", help="let other machines read it, who know the address")
    made.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the page as it is at the end")


def _watch(arguments: argparse.Namespace) -> int:
    from ..view.live.watch import watch

    try:
        watch(
            arguments.source,
            port=arguments.port,
            host=arguments.host,
            allow_remote=arguments.allow_remote,
            report=arguments.out,
        )
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise error if isinstance(error, OutputError) else OutputError(str(error)) from error
    return 0
