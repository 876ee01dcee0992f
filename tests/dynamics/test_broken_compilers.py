"""Compilers that fail: a warning and the eager loop, and the compiler's words for whoever forces the kernel."""

import os
import shutil
import subprocess
import time

import pytest
import torch

from sample import sample
from spikescope.dynamics import derivative, run
from spikescope.dynamics.cpp import native
from spikescope.neuron import LIFNode, ParametricLIFNode
from spikescope.spikes import PackedSpikes
from spikescope.spikes import kernel as packing
from spikescope.toolchain import compiler
from spikescope.toolchain.compiler import CompileError, load

GOOD = shutil.which("g++")
VERSION = 'case " $* " in *" --version "*) echo any compiler 1.0; exit 0 ;; esac\n'
OUTPUT = 'while [ "$1" != -o ]; do shift; done\n'

BROKEN = {
    "fails at once": "echo no licence; exit 3",
    "fails to compile": VERSION + "echo no space for the compiler; exit 1",
    "writes nothing": VERSION + "exit 0",
    "writes an empty file": VERSION + OUTPUT + ': > "$2"',
    "writes no library": VERSION + OUTPUT + 'echo text > "$2"',
    "writes a part of a library": VERSION + f'{GOOD} "$@"\n' + OUTPUT + 'head -c 3000 "$2" > "$2.1"; mv "$2.1" "$2"',
    "writes another library": VERSION + OUTPUT + f'echo "int other;" | {GOOD} -shared -fPIC -x c++ - -o "$2"',
    "gives wrong answers": VERSION
    + OUTPUT
    + f"""echo 'extern "C" int answer() {{ return 41; }}' | {GOOD} -shared -fPIC -x c++ - -o "$2\"""",
    "is killed": VERSION + "kill -9 $$",
    "hangs": VERSION + "sleep 1000 & sleep 1000",
    "hangs at its version": "sleep 1000",
    "hangs with its output closed": VERSION + "exec >&- 2>&-; sleep 1000",
    "prints without end": VERSION + "yes",
    "prints no text": VERSION + "printf '\\377\\376'; exit 1",
    "reads its input": VERSION + "cat; exit 1",
}


@pytest.fixture
def another(tmp_path, monkeypatch):
    """Set CXX to a script, or to a text, with an empty cache and nothing remembered."""
    cached = (
        compiler.command,
        compiler._trouble,
        compiler._identity,
        compiler._own_flags,
        packing._kernel,
        native._forward_kernel,
        native._backward_kernel,
        derivative._tell,
    )
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(tmp_path / "kernels"))
    monkeypatch.setattr(compiler, "PATIENCE", 6.0)
    monkeypatch.setattr(compiler, "SHORT_PATIENCE", 4.0)
    monkeypatch.setattr(compiler, "_failed", {})
    monkeypatch.setattr(run, "_told", set())

    def use(script=None, cxx=None):
        path = tmp_path / "my compiler"
        if script is not None:
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        monkeypatch.setenv("CXX", cxx or f"'{path}'")
        for function in cached:
            function.cache_clear()

    yield use
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


@pytest.mark.skipif(GOOD is None, reason="needs g++")
@pytest.mark.parametrize("name", sample(BROKEN, *(name for name in BROKEN if not name.startswith("hangs "))))
def test_a_broken_compiler_is_one_warning_and_the_eager_loop(another, name, tmp_path):
    x_seq = 3 * torch.rand(4, 5)
    want = LIFNode(step_mode="m", backend="torch")(x_seq)
    another(BROKEN[name])
    start = time.monotonic()
    with pytest.warns(RuntimeWarning, match=r"The C\+\+ compiler .*my compiler.* does not work") as told:
        results = [LIFNode(step_mode="m")(x_seq) for _ in range(2)]
    assert len(told) == 1
    assert all(torch.equal(y, want) for y in results)
    assert time.monotonic() - start < 20
    with pytest.raises(RuntimeError, match=r"'cpp': the C\+\+ compiler does not work: ") as forced:
        LIFNode(step_mode="m", backend="cpp")(x_seq)
    if "echo no" in BROKEN[name]:
        assert "no licence" in str(forced.value) or "no space for the compiler" in str(forced.value)
    PackedSpikes.from_dense((torch.rand(40, 20, 30) > 0.5).float())
    assert [path for path in (tmp_path / "kernels").rglob("*") if path.suffix != ".so"] == []


@pytest.mark.skipif(GOOD is None, reason="needs g++")
def test_a_compiler_that_fails_at_a_neuron_alone(another, tmp_path):
    another(f'for word; do grep -qs "void forward" -- "$word" && echo out of memory && exit 4; done\nexec {GOOD} "$@"')
    x_seq = 3 * torch.rand(4, 5)
    with pytest.warns(
        RuntimeWarning, match="The kernel of LIFNode could not be compiled, so it runs as the slower"
    ) as told:
        results = [LIFNode(step_mode="m")(x_seq) for _ in range(2)]
    assert len(told) == 1
    assert torch.equal(results[0], results[1])
    node = LIFNode(step_mode="s")
    single = torch.stack([node(x) for x in x_seq])
    assert torch.equal(single, results[0])
    with pytest.raises(CompileError, match="out of memory"):
        LIFNode(step_mode="m", backend="cpp")(x_seq)


@pytest.mark.skipif(GOOD is None, reason="needs g++")
def test_a_compiler_that_fails_at_a_gradient_alone(another):
    another(f'for word; do grep -qs "void backward" -- "$word" && echo gone mad && exit 4; done\nexec {GOOD} "$@"')
    x_seq = 3 * torch.rand(4, 5)

    def gradients(backend):
        node = ParametricLIFNode(step_mode="m", backend=backend, v_threshold=torch.linspace(0.5, 1, 5))
        x = x_seq.clone().requires_grad_()
        node(x).square().sum().backward()
        return x.grad, *(held.grad for held in node.parameters())

    with pytest.warns(RuntimeWarning, match=r"(?s)A backward pass runs as the slower eager loop .*gone mad") as told:
        found = [gradients("auto") for _ in range(2)]
    assert len(told) == 1
    for a, b, c in zip(*found, gradients("torch"), strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(a, c)


@pytest.mark.skipif(GOOD is None, reason="needs g++")
def test_the_compiler_of_the_environment_may_have_arguments_and_spaces(another, tmp_path):
    another(f'echo "$@" >> "{tmp_path}/given"\nexec {GOOD} "$@"')
    os.environ["CXX"] += " -m64 '-DA B'"
    compiler.command.cache_clear()
    assert load('extern "C" int answer() { return 5; }').answer() == 5
    assert all(line.startswith("-m64 -DA B ") for line in (tmp_path / "given").read_text().splitlines())


@pytest.mark.parametrize("cxx", ["/nowhere/compiler", "no-such-compiler -m64", "'g++", "/tmp"])
def test_a_compiler_that_is_not_there_is_told_and_the_next_is_taken(another, cxx):
    another(cxx=cxx)
    with pytest.warns(RuntimeWarning, match="CXX names the compiler .* which is not there or cannot be run; the next"):
        assert compiler.command() == (GOOD,)


def test_a_compiler_that_hangs_leaves_no_process_behind(another, tmp_path):
    another(VERSION + f"sleep 1000 & echo $! > '{tmp_path}/child'; wait")
    with pytest.raises(CompileError, match="did not end within 6 seconds"):
        load('extern "C" int answer() { return 6; }')
    child = (tmp_path / "child").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True, check=False).stdout
    assert state.strip()[:1] in ("", "Z")


def test_a_failure_is_remembered(another, tmp_path):
    another(VERSION + f"echo once >> '{tmp_path}/count'; exit 1")
    for _ in range(3):
        with pytest.raises(CompileError):
            load('extern "C" int answer() { return 7; }')
    assert (tmp_path / "count").read_text() == "once\n" * 2  # in the cache, and elsewhere in case the disk was full
