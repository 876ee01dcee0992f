"""The command `report`."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from ..files import OutputError, write_whole

__all__ = ["add_report"]

_EPILOG = """examples:
  spikescope report runs/demo-20260301-101500 -o report.html
  spikescope report before.spk after.spk          two of them side by side, what differs first
  spikescope report --data report.html            the values that a report was drawn from, as JSON

A report is one file that opens in any browser and asks the network for nothing. It tells no path, machine or user
unless --places is given.

exit status:
  0  done
  1  done, but some of it is damaged or could not be shown, as the report says
  2  there is nothing to report on, or the file could not be written"""


def add_report(commands: Any) -> None:
    """Add the command `report`."""
    made = commands.add_parser(
        "report",
        help="write one page that shows what went on in a run or a recording",
        description="Write one page of HTML on a run or a recording: findings, a map of the network, courses, spikes, "
        "potentials, gradients, energy, configuration.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=_report)
    made.add_argument(
        "source", type=Path, nargs="?", metavar="RUN_OR_RECORDING", help="the folder of a run or a recording"
    )
    made.add_argument("second", type=Path, nargs="?", metavar="SECOND", help="another, to hold against it")
    made.add_argument("-o", "--out", type=Path, metavar="FILE", help="the file to write (report.html; of --data, none)")
    made.add_argument("--title", metavar="TEXT", help="the title of the page")
    made.add_argument(
        "--run",
        type=int,
        dest="number",
        metavar="N",
        help="the run of a recording that is shown spike by spike (its first)",
    )
    made.add_argument("--sample", type=int, default=0, metavar="N", help="the sample of it (0)")
    made.add_argument("--places", action="store_true", help="tell paths, the machine and the user")
    made.add_argument("--data", type=Path, metavar="REPORT", help="give back the data of a report instead")


def _report(arguments: argparse.Namespace) -> int:
    try:
        if arguments.data is not None:
            return _data(arguments)
        if arguments.source is None:
            raise ValueError("report needs the folder of a run or a recording, or --data and a report.")
        from ..view import document_of, report

        options = {"run": arguments.number, "sample": arguments.sample, "places": arguments.places}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of damage, which the report tells
            path = report(
                arguments.source, arguments.second, arguments.out or "report.html", title=arguments.title, **options
            )
        found = document_of(path)
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise error if isinstance(error, OutputError) else OutputError(str(error)) from error
    for words in found["notes"]:
        print(f"spikescope: {words}", file=sys.stderr)
    print(path)
    return 1 if found["notes"] else 0


def _data(arguments: argparse.Namespace) -> int:
    from ..view.document import json_of, read_data
    from ..view.document.shape import FORMAT
    from ..view.options import place_of

    if arguments.source is not None:
        raise ValueError("report --data gives back what is in a report; leave the other folder out.")
    found = read_data(arguments.data)
    text = json_of(found[0] if len(found) == 1 else found) + "\n"
    if arguments.out is None:
        print(text, end="")
    else:
        begins = f'{{"format":"{FORMAT}"'
        place = place_of("report", arguments.out, (begins.encode(), f"[{begins}".encode()))
        write_whole(place, text)
        print(place)
    return 0
