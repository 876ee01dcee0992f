"""Threads beside a network: no team of OpenMP in them, and that of the network as before."""

import os
import re
import sys
from pathlib import Path

import pytest

import fresh
import spikescope
from spikescope import background

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")

BESIDE = """
import os, sys, threading
import torch
from spikescope.background import BackgroundThread

torch.set_num_threads(2)

def share_out():
    held.append(torch.get_num_threads())
    torch.rand(1 << 20).exp().sum()  # PyTorch shares it out

def threads():
    return len(os.listdir("/proc/self/task"))

held = []
share_out()
before = threads()
done, shared = threading.Event(), threading.Event()
kind = {"background": BackgroundThread, "plain": threading.Thread}[sys.argv[1]]
thread = kind(target=lambda: (share_out(), shared.set(), done.wait()))
thread.start()
shared.wait()
more = threads() - before
share_out()
done.set()
thread.join()
print(more, held)
"""


@pytest.mark.parametrize(("kind", "expected"), [("background", "1 [2, 1, 2]"), ("plain", "2 [2, 2, 2]")])
def test_it_has_no_helpers_and_the_others_keep_theirs(kind, expected):
    """The other kind shows what there is to avoid."""
    assert fresh.run("-c", BESIDE, kind, check=True).stdout.strip() == expected


MAPS = """
7f00-7f01 r-xp 00000000 00:00 0
7f02-7f03 r-xp 00000000 fd:00 1 {path}
7f04-7f05 r-xp 00000000 fd:00 2 /tmp/\udcff/libgomp.so.1
7f06-7f07 r-xp 00000000 fd:00 3 /tmp/libomp.so (deleted)
7f08-7f09 r-xp 00000000 00:00 0 [stack]
"""


def test_libraries_are_found_whatever_their_folders_are_called(monkeypatch, tmp_path):
    place = tmp_path / "with a space" / "libgomp-1.so.1"
    asked = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: os.fsencode(MAPS.format(path=place)))
    monkeypatch.setattr(background.ctypes, "CDLL", lambda path: asked.append(path) or Library(path == str(place)))
    background._switches.cache_clear()
    try:
        found = background._switches()
    finally:
        background._switches.cache_clear()
    assert str(place) in asked
    assert [switch(1) for switch in found] == [1]


class Library:
    """One that shares work out, or a stranger with its name."""

    def __init__(self, does):
        if does:
            self.omp_set_num_threads = lambda number: number


def test_where_nothing_tells_what_is_loaded_threads_run_all_the_same(monkeypatch):
    def refused(path):
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refused)
    background._switches.cache_clear()
    done = []
    thread = background.BackgroundThread(target=lambda: done.append(True))
    thread.start()
    thread.join()
    background._switches.cache_clear()
    assert done == [True]


WATCHED = """
import os, time
import torch
from torch import nn
import spikescope
from spikescope import functional, layer, neuron

torch.set_num_threads(2)
net = nn.Sequential(layer.Conv2d(1, 32, 3, padding=1), neuron.LIFNode(), layer.Flatten(), layer.Linear(25088, 10))
functional.set_step_mode(net, "m")

def step():
    net(torch.rand(4, 32, 1, 28, 28)).sum().backward()
    functional.reset_net(net)

def threads():
    return len(os.listdir("/proc/self/task"))

for _ in range(3):
    step()
before = threads()
with spikescope.live(net, quiet=True):
    until = time.monotonic() + 2
    while time.monotonic() < until:
        step()
    print(threads() - before)
"""


def test_a_live_view_takes_its_two_threads_alone():
    assert fresh.run("-c", WATCHED, check=True).stdout == "2\n"


def test_threads_of_all_that_watches_are_of_this_kind():
    package = Path(spikescope.__file__).parent
    files = [file for room in ("monitor", "recording", "report", "view") for file in (package / room).rglob("*.py")]
    plain = [str(file.relative_to(package)) for file in files if re.search(r"\bThread\(", file.read_text())]
    assert len(files) > 100
    assert plain == []
