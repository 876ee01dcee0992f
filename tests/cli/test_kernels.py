"""`spikescope kernels`: built in one process, listed, and run by another that has no compiler."""

import json
import os
import subprocess
import threading
import time

import pytest
import torch

import fresh
from sample import sample
from spikescope.cli import kernels
from spikescope.cli.main import main
from spikescope.neuron.prebuilt import fused_neurons
from spikescope.toolchain.carried import levels

built_here = pytest.mark.skipif(not levels(), reason="kernels are built for x86-64-v3 and above")

RUN = """
import json, warnings
warnings.simplefilter("error")
import torch
from spikescope import neuron
from spikescope.toolchain import compiler

assert compiler.command() == ()
found = []
for backend in ("auto", "torch"):
    node = neuron.NonSpikingIFNode(step_mode="m", backend=backend)
    x = torch.linspace(-1, 3, 40).reshape(4, 10).requires_grad_()
    y = node(x)
    y.sum().backward()
    found.append([node.implementation(x).backend, y.tolist(), x.grad.tolist()])
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
    done = fresh.run(*command, "--level", level, env=os.environ | cache, check=True)
    assert f"SPIKESCOPE_KERNELS={out}" in done.stdout
    names = json.loads((out / level / "kernels.json").read_text())["NonSpikingIFNode"]
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
    assert f"NonSpikingIFNode  {len(names):>7}" in listed.stdout


WRONG = {
    "a neuron that is not there": (["--neurons", "LIFNod"], "No kernels are made of 'LIFNod'. Did you mean LIFNode"),
    "a neuron without kernels": (["--neurons", "PSN"], "No kernels are made of 'PSN'."),
    "a surrogate": (["--neurons", "LIFNode", "--surrogates", "Atn"], "No kernels are made of 'Atn'. Did you mean"),
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
