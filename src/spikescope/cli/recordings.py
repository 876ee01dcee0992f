"""The commands on recordings: `inspect` and `export`."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files import OutputError
from .shared import in_flags

__all__ = ["add_export", "add_inspect"]

_INSPECTED = """exit status:
  0  the recording is whole
  1  some of it is damaged; the rest is shown
  2  it could not be opened"""

_EXPORTED = """exit status:
  0  done
  1  done, but some of the recording is damaged and was left out
  2  the work could not begin or its results could not be written
  130  interrupted; nothing was written"""

ENDINGS = "pandas .csv, .csv.gz or .pkl, neo .pkl or .nix, nirdata .h5 or .hdf5"
"""Of formats that write files of several kinds, in words: to ask the formats they would have to be loaded."""

FLAGS = {name: f"--{name}" for name in ("overwrite", "runs", "dt")} | {"layers": "--layer", "signals": "--signal"}
"""The options of an export on the command line, by their names in code."""

EACH = 0.2
"""Seconds between two lines of progress."""


def formats() -> list[str]:
    """The names of the formats, which are those of their files: nothing is loaded to list them."""
    folder = Path(__file__).parent.parent / "recording" / "export" / "formats"
    return sorted(path.stem for path in folder.glob("[a-z]*.py"))


def add_inspect(commands: Any) -> None:
    """Add the command `inspect`."""
    made = _command(commands, "inspect", "show what a recording holds, how long and how large it is", _INSPECTED)
    made.set_defaults(run=_inspect)
    made.add_argument("recording", type=Path, metavar="RECORDING", help="the folder of a recording")
    made.add_argument("--check", action="store_true", help="read all of it, to find every damage")


def add_export(commands: Any) -> None:
    """Add the command `export`."""
    made = _command(commands, "export", "write a recording in a format of other programs", _EXPORTED)
    made.set_defaults(run=_export)
    made.add_argument("recording", type=Path, metavar="RECORDING", help="the folder of a recording")
    made.add_argument("--to", required=True, type=_format, metavar="FORMAT", help=", ".join(formats()))
    out = "the file or folder to write, which is not there yet; where there are several kinds its ending chooses: "
    made.add_argument("out", type=Path, metavar="OUT", help=f"{out}{ENDINGS}")
    for name, what in (("layer", "layers"), ("signal", "signals")):
        text = f"{what} to take, a name or a pattern such as 'conv*', several times for more (all)"
        made.add_argument(f"--{name}", action="append", metavar="NAME", help=text)
    made.add_argument("--runs", type=_runs, metavar="A[:B]", help="the run A, or the runs from A to before B (all)")
    made.add_argument("--dt", type=_seconds, metavar="SECONDS", help="how long a step is, where the recording has none")
    made.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    made.add_argument("--quiet", action="store_true", help="show no progress")


def _command(commands: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    shown: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return shown


def _runs(text: str) -> int | slice:
    parts = text.split(":")
    if len(parts) > 2 or not any(parts) or not all(part.isdecimal() or (not part and parts[1:]) for part in parts):
        raise argparse.ArgumentTypeError(f"a run such as 3, or runs such as 0:10, is wanted, but got {text!r}")
    return slice(*(int(part) if part else None for part in parts)) if parts[1:] else int(text)


def _format(text: str) -> str:
    if text in formats():
        return text
    from ..recording.export.base import writers

    found = writers(text)
    cure = f"for a file .{text} say {' or '.join(f'--to {name}' for name in found)}" if found else ""
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r}; {cure or 'choose from ' + ', '.join(formats())}")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds above 0, such as 0.001, are wanted, but got {text!r}")
    return number


def _open(path: Path, whole: bool = False) -> Any:
    """The recording, or an OutputError in words, as all that the command refuses; its damage is told by the caller.

    - `whole`: read all of it once, so that `damage` says all.
    """
    from ..recording import open_recording

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return open_recording(path, damaged="skip" if whole else "tell")
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from error


def _inspect(arguments: argparse.Namespace) -> int:
    recording = _open(arguments.recording, arguments.check)
    print(recording.overview().text(rows=None))
    return 1 if recording.damage else 0


def _export(arguments: argparse.Namespace) -> int:
    recording = _open(arguments.recording)
    from ..errors import MissingExtraError
    from ..recording.export import registry

    format = registry[arguments.to]
    progress = None if arguments.quiet or not sys.stderr.isatty() else _progress(arguments.to)
    choice = {"layers": arguments.layer, "signals": arguments.signal, "runs": arguments.runs, "dt": arguments.dt}
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            out = format.export(recording, arguments.out, arguments.overwrite, **choice, progress=progress)
    except (MissingExtraError, ValueError, OutputError) as error:
        raise OutputError(in_flags(error, FLAGS)) from error
    finally:
        if progress is not None:
            print("\r\033[K", end="", file=sys.stderr)
    for warning in told:
        print(f"spikescope: {in_flags(warning.message, FLAGS)}", file=sys.stderr)
    for words in recording.damage:
        print(f"spikescope: {words}", file=sys.stderr)
    print(f"{out}: {arguments.to}, {_size(out)}")
    return 1 if recording.damage else 0


def _progress(name: str) -> Callable[[int, int], None]:
    """One line on the terminal that moves on, a few times a second; what was read has then to be written."""
    last = 0.0

    def show(done: int, all: int) -> None:
        nonlocal last
        if time.monotonic() - last > EACH or done == all:
            last = time.monotonic()
            writing = ", writing the file" if done == all else ""
            print(f"\r{name} {100 * done // all:>3} %{writing}", end="", file=sys.stderr, flush=True)

    return show


def _size(path: Path) -> str:
    from ..display import size_of

    parts = [held for held in path.rglob("*") if held.is_file()] if path.is_dir() else [path]
    return size_of(sum(held.stat().st_size for held in parts))
