"""The loops over the neurons of a block become vector code: a choice that is made a branch would cost tenfold."""

import platform
import re
import subprocess
from importlib import resources

import pytest
import torch
from dynamics_cases import NEURONS, make, unround

from spikescope.dynamics.cpp import native
from spikescope.dynamics.cpp.borrowed import missing
from spikescope.dynamics.cpp.chunks import CHUNK
from spikescope.dynamics.cpp.kernel import IO_TYPES, backward_source, backward_step_source, forward_source
from spikescope.dynamics.graphs.program import program
from spikescope.neuron import EIFNode, GatedLIFNode, LIAFNode, LIFNode, ParametricLIFNode
from spikescope.toolchain import compiler
from spikescope.toolchain.carried import LEVELS, level_flags

PARTS = ("decay_power", "decay_rest", "decay", "slope_of_decay")
"""Of the slope of a sigmoid."""

PROCESSORS = [level_flags(level) for level in LEVELS] if platform.machine() == "x86_64" else [("-march=native",)]
"""What is compiled for, whatever runs here: with AVX-512 and without it a kernel is another."""


def sources(cls, io=torch.float32, taps=frozenset(), learns=False):
    node = make(cls, "cpp")
    if learns:
        unround(node, ())
    key = node._definition(node.params()).key
    made = program(key)
    forward, backward = made.forward(torch.float32), made.backward(torch.float32, made.differentiable)
    yield forward_source(forward, io, taps)
    for source in (backward_source, backward_step_source):
        yield source(backward, io, tuple(True for _ in made.differentiable))


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
    """Every loop that should be vector code is, on each kind of processor, those of chunks where it takes none too."""
    for text in texts:
        assert text.count("const bool far = ") == text.count("far = CHUNK < B && large")
        source = text.replace("far = CHUNK < B && large", "far = large")
        path = tmp_path / "kernel.cpp"
        for processor in PROCESSORS:
            path.write_text(source)
            lines = preprocessed(path, processor).splitlines()  # without the loops for other processors
            path.write_text("\n".join(lines))
            loops = [i for i, line in enumerate(lines, 1) if "#pragma omp simd" in line]
            assert loops
            ends = [next(j for j in range(i, len(lines)) if lines[j].strip() == "}") for i in loops]
            done = vectorised(path, processor)
            left = [i for i, end in zip(loops, ends, strict=True) if done.isdisjoint(range(i, end + 1))]
            assert not left, (processor, left)


def preprocessed(path, processor):
    """What the compiler reads for a processor."""
    command = [compiler.command()[0], *compiler.FLAGS, *processor, "-E", "-P", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def vectorised(path, processor):
    """The lines of the loops that the compiler made vector code."""
    flags = [*compiler.FLAGS, *processor, *compiler._for_gcc(), "-fopt-info-vec-optimized", "-S", "-o", "/dev/null"]
    told = subprocess.run([compiler.command()[0], *flags, path], capture_output=True, text=True, check=True).stderr
    return {int(line.split(":")[1]) for line in told.splitlines() if "loop vectorized" in line}


@pytest.mark.skipif("Free Software Foundation" not in compiler._version(), reason="the flags are those of GCC")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="counts instructions of AVX2")
@pytest.mark.parametrize(("name", "choices"), [("exponential", 4), ("logistic_slope", 1), ("hyperbolic_tangent", 5)])
def test_a_choice_of_two_values_is_one_blend(name, choices, tmp_path):
    text = resources.files("spikescope.dynamics.cpp").joinpath("math.h").read_text()
    text += f"void of_all(const float* __restrict x, float* y) {{ for (int i = 0; i < 256; i++) y[i] = {name}(x[i]); }}"
    path = tmp_path / "function.cpp"
    path.write_text(text)
    flags = [*compiler.FLAGS, "-march=haswell", *compiler._for_gcc(), "-S", "-o", "-"]
    told = subprocess.run([compiler.command()[0], *flags, path], capture_output=True, text=True, check=True).stdout
    assert 0 < told.count("vblendv") <= choices


def test_the_parts_of_a_slope_are_loops_of_their_own():
    _, backward, _ = sources(LIFNode)
    loops = backward.split('extern "C" void backward')[1].split("#pragma omp simd")
    places = [next(i for i, loop in enumerate(loops) if f"= {part}(" in loop) for part in PARTS]
    assert places[0] == places[1] < places[2] < places[3]


def test_the_slope_of_a_tanh_that_only_a_gradient_reads_takes_no_tanh():
    for source in list(sources(LIAFNode))[1:]:
        kernel = source.split('extern "C" void backward')[1]
        assert "tanh_backward" in kernel
        assert "hyperbolic_tangent(" not in kernel


def test_a_function_of_pytorch_is_called_once_for_a_block():
    calls = {}
    for cls in NEURONS:
        forward = next(sources(cls))
        calls[cls] = "lend_" in forward
        assert (f"constexpr long CHUNK = {CHUNK};" in forward) is not calls[cls]
    assert not calls[LIFNode]
    assert calls[EIFNode] is (missing(torch.ops.aten.exp.default, torch.float32) is None)


def test_a_kernel_takes_chunks_but_for_functions_of_pytorch_and_many_sums():
    for cls, learns in ((LIFNode, False), (ParametricLIFNode, False), (GatedLIFNode, False), (GatedLIFNode, True)):
        _, backward, _ = sources(cls, learns=learns)
        chunks = not learns  # then it has six sums
        assert (f"constexpr long CHUNK = {CHUNK};" in backward) is chunks
        assert backward.count("fetch(gyt") == (2 if chunks else 1)  # in a chunk, and in what is left


@pytest.fixture
def far(monkeypatch):
    """Sets from how many bytes on a backward kernel takes chunks."""

    def at(least):
        monkeypatch.setattr(native, "far_from", lambda: least)
        native._known_backward.cache_clear()

    yield at
    native._known_backward.cache_clear()


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_gives_the_same_gradients_in_chunks(cls, far):
    """Of an input from which on a backward kernel takes chunks, and of its parts, which are too small for that."""
    x_seq, g = torch.randn(4, 1023, 261) + 0.5, torch.randn(4, 1023, 261)  # not all blocks are whole
    far(x_seq.nbytes - 1)
    whole, *parts = (
        gradients(cls, x_seq[:, part].clone(), g[:, part].clone())
        for part in (slice(None), slice(512), slice(512, None))
    )
    assert torch.equal(whole[0], torch.cat([part[0] for part in parts], 1))
    for found, one, other in zip(whole[1:], parts[0][1:], parts[1][1:], strict=True):
        torch.testing.assert_close(found, one + other, rtol=1e-4, atol=1e-2)


def gradients(cls, x_seq, g):
    """Of the input and of all parameters."""
    torch.manual_seed(1)
    node = make(cls, "cpp")
    y = node(x_seq.requires_grad_())
    weights = g if y.shape == g.shape else g[0]  # a readout gives one step
    return torch.autograd.grad(y, [x_seq, *node.parameters()], weights)
