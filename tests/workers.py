"""What the workers of a run need not do: read what another has read, and tell what says nothing."""

import importlib
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest


def read_from_the_end(places):
    """Import the files of tests below some places, in every second worker; what they raise comes up again.

    Each worker collects all tests, and so would each turn the asserts of all files into what tells of their values,
    which takes longer than to run them, unless another has done it. The others go through them from the front, as
    pytest does, and either finds what the other wrote.
    """
    if not os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw").endswith(tuple("13579")):
        return
    held = [Path(place.partition("::")[0]) for place in places]
    files = {file for place in held for file in ([place] if place.is_file() else place.rglob("test_*.py"))}
    for file in sorted(files, reverse=True):
        if (folder := str(file.parent.resolve())) not in sys.path:
            sys.path.insert(0, folder)
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(file.stem)


def send_less(config):
    """Of a test that passes, a worker sends one report of three: nobody asks for those of its setup and its end.

    To read them is most of what the process that prints has to do.
    """
    if config.getoption("durations") or config.getoption("xmlpath", None):
        return
    for plugin in config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":
            plugin.sendevent = partial(_send, plugin.sendevent)


def _send(send, name, **held):
    report = held.get("data", {})
    if name != "testreport" or report["when"] == "call" or report["outcome"] != "passed":
        send(name, **held)
