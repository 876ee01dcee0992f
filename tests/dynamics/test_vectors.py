"""The loops over the neurons of a block become vector code: a choice that is made a branch would cost tenfold."""

import re
import subprocess

import pytest
import torch
from dynamics_cases import NEURONS, make

from spikescope.dynamics.cpp.kernel import IO_TYPES, backward_source, forward_source
from spikescope.dynamics.graphs.program import program
from spikescope.neuron import LIFNode
from spikescope.toolchain import compiler


def sources(cls, io=torch.float32, taps=frozenset()):
    node = make(cls, "cpp")
    key = node._definition(node.params()).key
    made = program(key)
    forward, backward = made.forward(torch.float32), made.backward(torch.float32, made.differentiable)
    yield forward_source(forward, io, taps)
    yield backward_source(backward, io, tuple(True for _ in made.differentiable))


@pytest.mark.slow(keep=4)
@pytest.mark.skipif("Free Software Foundation" not in compiler._version(), reason="only GCC tells what it vectorised")
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_the_loops_of_every_neuron_are_vector_code(cls, tmp_path):
    check(sources(cls), tmp_path)


@pytest.mark.skipif("Free Software Foundation" not in compiler._version(), reason="only GCC tells what it vectorised")
@pytest.mark.parametrize("io", [torch.bfloat16, torch.float16], ids=str)
def test_rows_of_half_precision_are_converted_in_vector_code(io, tmp_path):
    check(sources(LIFNode, io), tmp_path)


@pytest.mark.parametrize("io", IO_TYPES, ids=str)
def test_no_header_is_read_that_takes_longer_than_the_kernel(io):
    for source in sources(LIFNode, io, frozenset({"packed", "count", "range"})):
        assert set(re.findall(r"#\s*include <(.*)>", source)) == {"stddef.h", "stdint.h", "string.h", "sys/mman.h"}


def check(texts, tmp_path):
    """Every loop that should be vector code is."""
    for source in texts:
        path = tmp_path / "kernel.cpp"
        path.write_text(source)
        flags = [*compiler.FLAGS, *compiler._own_flags(), "-fopt-info-vec-optimized", "-S", "-o", "/dev/null"]
        told = subprocess.run([compiler.command()[0], *flags, path], capture_output=True, text=True, check=True).stderr
        done = {int(line.split(":")[1]) for line in told.splitlines() if "loop vectorized" in line}
        lines = source.splitlines()
        loops = [i for i, line in enumerate(lines, 1) if "#pragma omp simd" in line]
        assert loops
        ends = [next(j for j in range(i, len(lines)) if lines[j].strip() == "}") for i in loops]
        assert [i for i, end in zip(loops, ends, strict=True) if done.isdisjoint(range(i, end + 1))] == []
