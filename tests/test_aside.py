"""Threads beside a network: no team of OpenMP in them, and that of the network as before."""

import re
import sys
from pathlib import Path

import pytest

import fresh
import spikescope

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")

BESIDE = """
import os, sys, threading
import torch
from spikescope.aside import Aside

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
kind = {"aside": Aside, "plain": threading.Thread}[sys.argv[1]]
thread = kind(target=lambda: (share_out(), shared.set(), done.wait()))
thread.start()
shared.wait()
more = threads() - before
share_out()
done.set()
thread.join()
print(more, held)
"""


@pytest.mark.parametrize(("kind", "expected"), [("aside", "1 [2, 1, 2]"), ("plain", "2 [2, 2, 2]")])
def test_it_has_no_helpers_and_the_others_keep_theirs(kind, expected):
    """The other kind shows what there is to avoid."""
    assert fresh.run("-c", BESIDE, kind, check=True).stdout.strip() == expected


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
