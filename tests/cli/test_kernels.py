"""`spikescope kernels`: built in one process, listed, and run by another that has no compiler."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
import torch

import fresh
from sample import sample
from spikescope import rnn
from spikescope.cli import kernels
from spikescope.cli.main import main
from spikescope.layer.prebuilt import windows_of
from spikescope.neuron import prebuilt
from spikescope.neuron.prebuilt import fused_neurons
from spikescope.toolchain.carried import levels

built_here = pytest.mark.skipif(not levels(), reason="kernels are built for x86-64-v3 and above")

RUN = """
import json, warnings
warnings.simplefilter("error")
import torch
from spikescope import neuron
from spikescope.dynamics.pool import cpu
from spikescope.layer.prebuilt import windows_of
from spikescope.rnn import SpikingVanillaRNNCell
from spikescope.surrogate import Sigmoid
from spikescope.toolchain import compiler

assert compiler.command() == ()
found = []
for backend in ("auto", "torch"):
    node = neuron.NonSpikingIFNode(step_mode="m", backend=backend)
    x = torch.linspace(-1, 3, 40).reshape(4, 10).requires_grad_()
    y = node(x)
    y.sum().backward()
    found.append([node.implementation(x).backend, y.tolist(), x.grad.tolist()])
    node.reset()
    node.step_mode, x.grad = "s", None
    sum(node(step).sum() for step in x).backward()
    found[-1].append(x.grad.tolist())
assert cpu.pool(torch.rand(1, 1, 8, 8), windows_of("3,2,1")) is not None
assert cpu.pool(torch.rand(1, 1, 8, 8), windows_of("3,2,0")) is None
cell = SpikingVanillaRNNCell(3, 5, True, Sigmoid())
states = cell.rest(torch.rand(4, 3), (4, 5))
assert cell._by_kernels(torch.rand(2, 4, 5), states) is not None
for dtype in (torch.float32, torch.float16):
    node, x = neuron.PSN(T=4, surrogate_function=Sigmoid()).to(dtype), torch.rand(4, 32, dtype=dtype)
    node(x.requires_grad_()).sum().backward()
    assert node.implementation(x).backend == "cpp", node.implementation(x)
node._spikes(torch.rand(80, 1000, requires_grad=True)).sum().backward()
print(json.dumps(found))
"""


def run(*words, **variables):
    env = {name: held for name, held in (os.environ | variables).items() if held is not None}
    return fresh.run(*words, env=env)


@built_here
@pytest.mark.parametrize("level", sample(levels(), *levels()[:1]))
def test_a_machine_without_a_compiler_runs_what_another_has_built(tmp_path, level):
    out = tmp_path / "kernels"
    cache = {"SPIKESCOPE_CACHE": str(tmp_path / "cache")}
    command = ("-m", "spikescope", "kernels", "build", "--neurons", "NonSpikingIFNode", "-o", str(out))
    others = ("--cells", "SpikingVanillaRNNCell", "--pools", "3,2,1", "--parts", "parallel", "--surrogates", "Sigmoid")
    done = fresh.run(*command, *others, "--level", level, env=os.environ | cache, check=True)
    assert f"SPIKESCOPE_KERNELS={out}" in done.stdout
    index = json.loads((out / level / "kernels.json").read_text())
    assert len(index["SpikingVanillaRNNCell"]) == 2
    assert len(index["MaxPool2d(3, 2, 1)"]) == 1
    assert len(index["parallel"]) == 4
    names = index["NonSpikingIFNode"]
    assert names
    assert {f"{name}.so" for name in names} < {path.name for path in (out / level).iterdir()}
    alone = {"PATH": str(tmp_path), "CXX": None, "CC": None, "SPIKESCOPE_KERNELS": str(out)}
    if level != levels()[0]:  # as a processor that has no more
        alone["ATEN_CPU_CAPABILITY"] = "avx2"
    used = run("-c", RUN, SPIKESCOPE_CACHE=str(tmp_path / "other"), **alone)
    assert used.returncode == 0, used.stderr
    fused, eager = json.loads(used.stdout)
    assert fused[0] == "cpp"
    assert fused[1:] == eager[1:]
    listed = run("-m", "spikescope", "kernels", "list", **alone)
    assert listed.returncode == 0
    counts = dict(re.findall(r"^(\S.*?)  +(\d+)  ", listed.stdout, re.MULTILINE))
    assert counts == {name: str(len(held)) for name, held in index.items()}


WRONG = {
    "a neuron that is not there": (["--neurons", "LIFNod"], "No kernels are made of 'LIFNod'. Did you mean LIFNode"),
    "a neuron without kernels": (["--neurons", "PSN"], "No kernels are made of 'PSN'. They are made of Adaptive"),
    "a surrogate": (["--neurons", "LIFNode", "--surrogates", "Atn"], "No kernels are made of 'Atn'. Did you mean"),
    "a cell": (["--cells", "SpikingLSTM"], "No kernels are made of 'SpikingLSTM'. Did you mean SpikingLSTMCell"),
    "a cell without": (["--cells", "LSTM"], "No kernels are made of 'LSTM'. They are made of SpikingGRUCell"),
    "a pool": (
        ["--pools", "2", "3,0,1"],
        "such as 2 or 3,2,1, with at most 64 values in a window, and half a window of",
    ),
    "nothing": ([], "Say what to build: --all, or some of --neurons, --cells, --pools and --parts."),
    "all and some": (["--all", "--pools", "2"], "Say what to build: --all, or some of"),
    "a level": (["--all", "--level", "x86-64-v9"], "and this processor reaches"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_built_is_told_before_anything_is(name, tmp_path, capsys):
    words, told = WRONG[name]
    assert main(["kernels", "build", *words, "-o", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_list_of_nothing_says_how_to_make_some(tmp_path, capsys, monkeypatch):
    assert main(["kernels", "list", str(tmp_path)]) == 2
    assert f"There are no kernels in {tmp_path}. Make some: spikescope kernels build" in capsys.readouterr().err
    monkeypatch.delenv("SPIKESCOPE_KERNELS", raising=False)
    assert main(["kernels", "list"]) == 2
    assert "that this machine would use" in capsys.readouterr().err
    assert main(["kernels", "list", 300 * "a"]) == 2  # longer than a name may be
    assert "There are no kernels in aaa" in capsys.readouterr().err


def test_what_several_builds_write_down_at_once_is_all_there(tmp_path, monkeypatch):
    names, real = [f"Node{i}" for i in range(8)], kernels._index

    def slow(place):
        held = real(place)
        time.sleep(0.02)
        return held

    monkeypatch.setattr(kernels, "_index", slow)
    threads = [threading.Thread(target=kernels._enter, args=(tmp_path, name, [f"{name}-kernel"])) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kernels._enter(tmp_path, "Node0", [])  # built again: nothing is lost
    assert real(tmp_path) == {name: [f"{name}-kernel"] for name in names}


@built_here
def test_a_build_for_another_level_is_the_same_command_again(tmp_path, monkeypatch):
    words, seen = ["kernels", "build", "--neurons", "IFNode", "-o", str(tmp_path), "--level", levels()[0]], []

    def run(command, env, check):
        seen.append((command[1:], env["ATEN_CPU_CAPABILITY"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr(kernels.subprocess, "run", run)
    assert main(words) == 0
    assert seen == [(["-m", "spikescope", *words], kernels.CAPABILITIES[levels()[0]].lower())]


def test_the_neurons_of_which_kernels_are_made():
    assert {"LIFNode", "IFNode", "EIFNode", "NonSpikingIFNode"} <= set(fused_neurons())


@built_here
def test_all_is_every_neuron_every_cell_every_part_and_the_pools_of_usual_networks(tmp_path, monkeypatch):
    asked = []

    def prebuild(folder, level, wanted):
        asked.extend(each.name for each in wanted)
        return []

    monkeypatch.setattr(prebuilt, "prebuild", prebuild)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels.CAPABILITIES[levels()[0]])
    (tmp_path / levels()[0]).mkdir()
    assert main(["kernels", "build", "--all", "-o", str(tmp_path)]) == 0
    cells = [name for name, held in vars(rnn).items() if name.endswith("Cell") and isinstance(held, type)]
    pools = ["MaxPool2d(2, 2, 0)", "MaxPool2d(3, 2, 1)", "MaxPool2d(3, 1, 1)"]
    assert asked == [*fused_neurons(), *sorted(cells), *pools, *kernels.PARTS]


@pytest.mark.parametrize("told", ["", "a", "-1", "9", "3,2,2", "0", "2,2,0,1", "3,,1", "2,0"])
def test_windows_of_which_there_is_no_pool_are_refused(told):
    with pytest.raises(ValueError, match="A pool is given as size, stride and padding"):
        windows_of(told)
