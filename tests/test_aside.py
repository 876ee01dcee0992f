"""Threads beside a network: no team of OpenMP in them, and that of the network as before."""

import re
import sys

import pytest

import fresh

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
import os, sys, tempfile, time
import torch
from torch import nn
import spikescope
from spikescope import functional, layer, monitor, neuron

torch.set_num_threads(2)
net = nn.Sequential(layer.Conv2d(1, 16, 3, padding=1), neuron.LIFNode(), layer.Flatten(), layer.Linear(12544, 10))
functional.set_step_mode(net, "m")

def step():
    net(torch.rand(4, 16, 1, 28, 28)).sum().backward()
    functional.reset_net(net)

def threads():
    return len(os.listdir("/proc/self/task"))

for _ in range(3):
    step()
before = threads()
with tempfile.TemporaryDirectory() as place:
    if sys.argv[1] == "live":
        held, own = spikescope.live(net, quiet=True), 2
    else:
        held, own = monitor.record(net, ["spike", "v"], to=place + "/run.spk"), 1
    with held:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            step()
        more = threads() - before
print(more - own)
"""


@pytest.mark.parametrize("what", ["live", "recording"])
def test_what_watches_a_training_starts_no_team(what):
    found = fresh.run("-c", WATCHED, what, check=True).stdout
    assert re.fullmatch(r"0\n", found), found
