"""Kernels that rooms declare: all that has one does, and what is built of them is all that a watched training needs."""

import ast
import json
import os
from pathlib import Path

import pytest

import fresh
import spikescope.train
import spikescope.view  # and with both all that declares kernels
from spikescope.cli.kernels import PARTS
from spikescope.toolchain import declared
from spikescope.toolchain.carried import levels

SOURCE = Path(spikescope.__file__).parent
ASKED_BY_RUNNING = {"dynamics/cpp/borrowed.py", "dynamics/pool/cpu.py"}
"""What compiles kernels that are built by running what has them; see the `prebuilt.py` of neurons, cells and pools."""


def imported(path, module):
    """The names that a file imports from a module of ours."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {name.name for node in nodes if (node.module or "").endswith(module) for name in node.names}


def test_the_command_knows_all_parts():
    assert list(PARTS) == declared.parts()


def test_whatever_compiles_a_kernel_declares_it():
    files = {str(path.relative_to(SOURCE)): path for path in SOURCE.rglob("*.py") if "toolchain" in path.read_text()}
    makers = {name for name, path in files.items() if imported(path, "toolchain.compiler") & {"function", "load"}}
    declaring = {name for name, path in files.items() if imported(path, "toolchain.declared") & {"declare", "declared"}}
    of_reducers = {name for name in declaring if name.startswith("monitor/reduce/cpp/")}
    assert len(of_reducers) == 6
    assert makers - declaring == ASKED_BY_RUNNING | {"monitor/reduce/cpp/common.py"}


def test_of_dtypes_those_are_built_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(declared, "_declared", {})
    declared.declare("things", "whole")
    declared.declare("things", lambda: "given")
    declared.declared("things", dtypes=("a", "b"))(lambda dtype: f"of {dtype}")
    declared.declared("others", choices=(1, 2))(lambda choice: f"{choice}")
    asked = []
    monkeypatch.setattr(declared, "load", asked.append)
    for part in declared.parts():
        declared.build_declared(part, ("b", "c"))
    assert asked == ["1", "2", "whole", "given", "of b"]


BUILD = """
import json, sys
from functools import partial
from pathlib import Path
import torch
from spikescope import neuron, train, view
from spikescope.layer.prebuilt import of_pools, windows_of
from spikescope.neuron import prebuilt
from spikescope.toolchain import compiler
from spikescope.toolchain.carried import levels
from spikescope.toolchain.declared import build_declared, parts

made = []
compiler.Order.fill = lambda order, text: made.append(text) or compiler._load(text, compiler._name(text))
dtypes = [torch.float32]
wanted = [prebuilt.Wanted("IFNode", partial(prebuilt._run, neuron.IFNode(backend="cpp"), *dtypes))]
wanted += [prebuilt.Wanted(part, partial(build_declared, part, dtypes)) for part in parts()]
all(prebuilt.prebuild(Path(sys.argv[1]), levels()[0], [*wanted, *of_pools([windows_of("2")], dtypes)]))
print(json.dumps(made))
"""

TRAIN = """
import json, sys
from pathlib import Path
import torch
from spikescope import functional, layer, monitor, neuron
from spikescope.monitor.reduce import registry
from spikescope.toolchain import compiler
from spikescope.view.report import report

place, made, load = Path(sys.argv[1]), [], compiler._load
compiler._load = lambda text, name: made.append(text) or load(text, name)
net = torch.nn.Sequential(
    layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8), neuron.IFNode(), layer.MaxPool2d(2),
    layer.Flatten(), layer.Linear(8 * 8 * 8, 10), neuron.IFNode(),
)
functional.set_step_mode(net, "m")
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

def train():
    optimizer.zero_grad()
    net(torch.rand(6, 32, 2, 16, 16)).mean(0).square().sum().backward()
    optimizer.step()
    functional.reset_net(net)

for signal in ("spike", "h", "grad_output"):
    kinds = [kind(**kind.example) for kind in registry.values() if not kind.signals or signal in kind.signals]
    alone = [[held] for held in kinds if type(held).__name__ in ("Moments", "SupportShare")]
    groups = alone if signal == "h" else [kinds]
    for held in groups:
        with monitor.record(net, held, signal=signal):
            train()
for names in (["rate", "silent share"], "packed"):
    with monitor.record(net, names):
        train()
with monitor.flight_recorder(net, to=place / "flight"):
    train()
with monitor.health(net):
    train()
with monitor.record(net, ["spike", "v", "grad_output"], to=place / "run.spk"):
    train()
report(place / "run.spk", to=place / "page.html")
print(json.dumps(made))
"""


def texts(program, place, **variables):
    """Of the kernels that a program asks for, which are compiled and kept as those of all tests are."""
    done = fresh.run("-c", program, str(place), env=os.environ | variables, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(not levels(), reason="kernels are built for x86-64-v3 and above")
def test_a_watched_training_asks_for_no_kernel_that_is_not_built(tmp_path):
    """A kernel is found by its text: what is built under one is run for it, as the tests of carried kernels show."""
    capability = {"x86-64-v4": "avx512", "x86-64-v3": "avx2"}[levels()[0]]
    built = texts(BUILD, tmp_path, ATEN_CPU_CAPABILITY=capability)
    asked = texts(TRAIN, tmp_path, ATEN_CPU_CAPABILITY=capability)
    assert len(asked) >= 20
    assert asked - built == set()
