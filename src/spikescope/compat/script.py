"""Running a script, or a module, as `python` would, with the aliases in place."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

from .aliases import install

__all__ = ["main"]

_USAGE = "usage: python -m spikescope.compat [-h] [--force] (script.py | -m module) [argument ...]"
_HELP = f"""{_USAGE}

Run a script written for SpikingJelly on spikescope: its imports of spikingjelly get the modules of spikescope. All
arguments after the script are the script's own; its exit status and its tracebacks are what python would give.

options:
  -h, --help  show this text
  --force     use spikescope also where the package spikingjelly is installed
  -m module   run a module, as python -m does

Worker processes started by the method 'spawn' import the script anew, without the aliases: begin such a script with
`import spikescope.compat.spikingjelly`."""


def main(argv: Sequence[str]) -> int:
    """Run what `argv` says and return the exit status; a `SystemExit` of the script passes through."""
    given, force = list(argv), False
    while given and given[0].startswith("-") and given[0] != "-m":
        option = given.pop(0)
        if option in ("-h", "--help"):
            print(_HELP)
            return 0
        if option != "--force":
            return _refuse(f"there is no option {option}")
        force = True
    as_module = bool(given) and given[0] == "-m"
    given = given[as_module:]
    if not given:
        return _refuse("a module is wanted after -m" if as_module else "a script is wanted")
    if not as_module and not sys.flags.safe_path:
        sys.path[0] = str(Path(given[0]).resolve().parent)  # before the aliases: the package may lie beside the script
    _install_aloud(force)
    sys.argv = given
    try:
        return _run_module(given[0]) if as_module else _run_script(given[0])
    except SystemExit:
        raise
    except BaseException as error:
        seen = _from_the_script(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(seen), seen)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _refuse(reason: str) -> int:
    print(f"{_USAGE}\nspikescope.compat: {reason}.", file=sys.stderr)
    return 2


def _install_aloud(force: bool) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        install(force)
    for warning in said:
        print(f"spikescope.compat: {warning.message}", file=sys.stderr)


def _run_module(name: str) -> int:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0


def _run_script(path: str) -> int:
    """Run a file as the module `__main__`, which stays in place until the process ends."""
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        return _refuse(f"{path} cannot be read: {(error.strerror or str(error)).lower()}")
    path = os.path.abspath(path)
    module = ModuleType("__main__")
    module.__file__ = path
    module.__loader__ = SourceFileLoader("__main__", path)
    vars(module)["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    return 0


def _from_the_script(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this file and of `runpy` at its top."""
    while traceback is not None and (
        traceback.tb_frame.f_code.co_filename == __file__ or "runpy" in traceback.tb_frame.f_code.co_filename
    ):
        traceback = traceback.tb_next
    return traceback
