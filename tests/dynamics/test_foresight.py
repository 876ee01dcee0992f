"""With an empty cache the kernel of the backward pass is made beside that of the forward pass; else nothing is."""

import json
import os

import pytest

import fresh

PROGRAM = """
import json, sys, threading
import torch
from spikescope import neuron
from spikescope.dynamics.cpp import native

made, load = [], native.load

def noted(source):
    made.append(("backward" if "enter_backward" in source else "forward", threading.current_thread().name))
    return load(source)

native.load = noted
node = neuron.ParametricLIFNode(step_mode="m")
for _ in range(2):
    node.reset()
    x = torch.ones(4, 3, requires_grad=True)
    if sys.argv[1] == "learn":
        node(x).sum().backward()
    else:
        with torch.no_grad():
            node(x)
print(json.dumps(made))
"""


def kernels(cache, what):
    env = os.environ | {"SPIKESCOPE_CACHE": str(cache)}
    return sorted(json.loads(fresh.run("-c", PROGRAM, what, env=env, check=True).stdout))


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


def test_backward_kernel_is_made_meanwhile_and_once(cache):
    assert kernels(cache, "learn") == [["backward", "spikescope-backward-kernel"], ["forward", "MainThread"]]
    assert kernels(cache, "learn") == [["backward", "MainThread"], ["forward", "MainThread"]]


def test_no_backward_kernel_is_made_where_nobody_learns(cache):
    assert kernels(cache, "look") == [["forward", "MainThread"]]
