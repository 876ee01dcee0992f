"""What runs inside a user's program lands on no device that nobody chose: each tensor that is made says where."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron

SOURCE = Path(__file__).parents[1] / "src" / "spikescope"
ROOMS = ("monitor", "spikes", "dynamics", "functional")
OWN_THREAD = {"dynamics/graphs/trace.py", "dynamics/graphs/rules.py"}  # no default of the user's holds there
FACTORIES = {"tensor", "zeros", "ones", "empty", "full", "arange", "linspace", "logspace", "eye", "scalar_tensor"}
FACTORIES |= {"as_tensor", "empty_strided", "rand", "randn", "randint", "randperm"}

FILES = [path for room in ROOMS for path in sorted((SOURCE / room).rglob("*.py"))]
FILES = [path for path in FILES if path.relative_to(SOURCE).as_posix() not in OWN_THREAD]


def calls_without_device(text):
    """The calls `torch.<factory>(...)` that give neither `device=`, `out=` nor `**options`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FACTORIES:
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and not any(keyword.arg in ("device", "out", None) for keyword in node.keywords):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_each_tensor_that_is_made_says_where(path):
    assert calls_without_device(path.read_text()) == []


def test_a_call_without_a_device_is_seen():
    assert calls_without_device("a = torch.zeros(3); b = torch.zeros(3, device=x.device); c = x.new_zeros(3)") == [
        "torch.zeros(3)"
    ]


def test_a_network_on_the_cpu_is_watched_whatever_the_default_device():
    net = nn.Sequential(layer.Linear(4, 6), neuron.LIFNode(), layer.Linear(6, 2), neuron.IFNode())
    functional.set_step_mode(net, "m")
    x = torch.rand(5, 3, 4)
    fits = {words: cls for words, cls in monitor.reduce.registry.items() if "spike" in (cls.signals or ("spike",))}
    wanted = [cls(**cls.example) for cls in fits.values()]
    with monitor.record(net, wanted) as plain:
        want = net(x)
    functional.reset_net(net)
    torch.set_default_device("meta")
    try:
        with monitor.record(net, wanted) as recording:
            got = net(x)
        shown = str(recording)
    finally:
        torch.set_default_device(None)
    assert torch.equal(got, want)
    assert shown == str(plain)
