"""Every neuron of the registry is fused under 'auto' and has the bits of the eager loop, also where it uses exp."""

import ctypes
import os
import re

import pytest
import torch
from dynamics_cases import NEURONS, assert_equal, inputs, make

import fresh
from spikescope.dynamics.cpp import borrowed
from spikescope.dynamics.cpp.borrowed import _OF_ARRAYS, _OF_VECTORS, missing
from spikescope.dynamics.cpp.kernel import backward_source, backward_step_source, forward_source
from spikescope.dynamics.graphs.program import program
from spikescope.neuron import ComplementaryLIFNode, EIFNode, LIAFNode

aten = torch.ops.aten
REAL = [torch.float32, torch.float64]
pytestmark = pytest.mark.skipif(
    missing(aten.exp.default, torch.float32) is not None or missing(aten.sigmoid.default, torch.float32) is not None,
    reason="this PyTorch computes exp and sigmoid in a way that no kernel can follow",
)

SHAPES = {
    "one neuron": (4, 1),
    "one step": (1, 3, 37),
    "a vector and one": (3, 17),
    "two vectors": (3, 32),
    "less than two vectors": (2, 31),
    "a block and one": (3, 257),
    "several": (5, 3, 333),
}
LAYOUTS = {
    "gaps": lambda x: x[..., ::2],
    "time second": lambda x: x.transpose(0, 1),
    "channels last": lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
    "transposed": lambda x: x.transpose(-1, -2),
    "expanded": lambda x: x[:1].expand(x.shape),
}


def both(cls, x, **options):
    """Output and state under 'auto' and in the eager loop, for two calls in a row."""
    found = []
    for backend in ("auto", "torch"):
        torch.manual_seed(0)  # of the noise, for a neuron that has it
        node = make(cls, backend, options)
        with torch.no_grad():
            outputs = [node(x), node(x)]
        found.append((outputs, [getattr(node, name) for name in type(node).State._fields]))
    return found


def assert_alike(cls, x, **options):
    (got, got_state), (want, want_state) = both(cls, x, **options)
    for a, b in zip((*got, *got_state), (*want, *want_state), strict=True):
        assert_equal(a, b, f"{cls.__name__}, {tuple(x.shape)}, {x.dtype}")


@pytest.mark.parametrize("dtype", [*REAL, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_is_fused_and_bit_for_bit_the_eager_loop(cls, dtype):
    for shape in SHAPES.values():
        x = inputs(*shape, dtype=dtype)
        assert make(cls, "auto").implementation(x).backend == "cpp"
        assert_alike(cls, x)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_in_every_order_of_memory(cls, name):
    assert_alike(cls, LAYOUTS[name](inputs(4, 4, 6, 5, 6)))


@pytest.mark.parametrize("real", REAL, ids=str)
@pytest.mark.parametrize("target", [*_OF_ARRAYS, *_OF_VECTORS], ids=str)
def test_every_function_that_a_kernel_borrows(target, real):
    assert missing(target, real) is None
    text = borrowed.borrowed(target, real).call
    assert text.endswith(";")
    assert "@" in text


SIGMOIDS = [(real, wanted) for real in REAL for wanted in borrowed._wanted(aten.sigmoid.default, real)]


@pytest.mark.parametrize(("real", "wanted"), SIGMOIDS, ids=lambda value: str(getattr(value, "call", value)))
def test_a_sigmoid_that_passes_the_trials_is_that_of_pytorch_for_numbers_of_all_sizes(real, wanted):
    if not borrowed._alike(aten.sigmoid.default, wanted, real):
        pytest.skip("this PyTorch has another one")
    attempt = borrowed._attempt(wanted, real)
    for first in (0, 77):  # of each exponent and sign, 8,192 mantissas
        bits = torch.arange(first - (1 << 31), 1 << 31, 1 << 10).to(torch.int32)
        x = bits.view(torch.float32).to(real)
        want = torch.sigmoid(x)
        attempt(x.data_ptr(), len(x))
        assert_equal(x.nan_to_num(2), want.nan_to_num(2), wanted.call)


def test_of_two_ways_the_first_that_gives_the_bits_is_taken(monkeypatch, forgetful):
    steps, called = borrowed._wanted(aten.sigmoid.default, torch.float32)
    rounded = called._replace(call=f"{called.call} for (long i = 0; i < e; i++) @[i] *= 1.0001f;")
    for given, taken in (([steps, called], steps), ([called, steps], called), ([rounded, called], called)):
        monkeypatch.setattr(borrowed, "_wanted", lambda target, real, given=given: given)
        borrowed._found.cache_clear()
        if taken is called or torch.backends.cpu.get_cpu_capability() == "AVX2":
            assert borrowed.borrowed(aten.sigmoid.default, torch.float32) == taken


def rounded_in_two_ways(real):
    """Numbers whose sigmoid is another where PyTorch takes them one by one."""
    x = 6 * torch.randn(1 << 20, dtype=real, generator=torch.Generator().manual_seed(0))
    spread = torch.stack([x, x], 1)[:, 0]  # with gaps, for which PyTorch has no vectors
    return x[torch.sigmoid(spread) != torch.sigmoid(x)]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a team"])
def test_a_function_of_arrays_takes_no_threads_beside_those_of_the_kernel(inside):
    """After `torch.set_num_threads` MKL would open a team of its own for each block, within the kernel's."""
    threads = "MKL_Get_Max_Threads"
    head = "#pragma omp parallel num_threads(2)" if inside else ""
    library = borrowed.load(
        f"""{borrowed.header("math.h")}
using real = float;
constexpr long B = 256;
{borrowed.declarations([borrowed.Borrowed((borrowed._ALONE, threads), "")])}
static void told(long, const real*, real* y, long long) {{ *y = ((int (*)()){threads})(); }}
extern "C" void attempt(real* out) {{
  real most = 0, moved = 0;
  {head}
  {{
    real first, within, after;
    told(0, nullptr, &first, 0);  // a thread of a team may have been told of others before
    {{
      const Alone alone({borrowed._ALONE});
      by_array((void*)told, &within, 1);
    }}
    told(0, nullptr, &after, 0);
    #pragma omp critical
    {{ most = within > most ? within : most; moved += after != first; }}
  }}
  out[0] = most;
  out[1] = moved;
}}
"""
    )
    before, out = torch.get_num_threads(), torch.ones(2)
    try:
        torch.set_num_threads(3)
        library.attempt(ctypes.c_void_p(out.data_ptr()))
    finally:
        torch.set_num_threads(before)
    assert out.tolist() == [1, 0]


@pytest.mark.parametrize("cls", [EIFNode, LIAFNode], ids=lambda cls: cls.__name__)
def test_that_is_told_once_a_block_and_for_every_call(cls):
    node = make(cls, "cpp")
    made = program(node._definition(node.params()).key)
    back, asked = made.backward(torch.float32, ()), 0
    for text in (
        forward_source(made.forward(torch.float32), torch.float32, frozenset()),
        backward_source(back, torch.float32, ()),
        backward_step_source(back, torch.float32, ()),
    ):
        calls = re.findall("by_array|Alone alone", text.rpartition("for (long o = 0; o < n; o += B) {")[2])
        assert calls[:1] in ([], ["Alone alone"])
        assert calls.count("Alone alone") == ("by_array" in calls)
        asked += len(calls) > 1
    assert asked


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("real", REAL, ids=str)
def test_a_sigmoid_is_rounded_as_where_it_lies_and_as_many_threads_do(real, threads):
    odd = rounded_in_two_ways(real)
    assert len(odd)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size in (1, 15, 31, 33, 100, 255, 257, 1000, 32_768, 32_769, 70_001, 100_003):
            x = 2 * odd.repeat(-(-size // len(odd)))[:size].unsqueeze(0)  # H = X / 2
            assert_alike(LIAFNode, x, act=torch.sigmoid, threshold_related=False)
    finally:
        torch.set_num_threads(before)


def test_a_sigmoid_of_values_in_two_orders_is_left_to_the_eager_loop():
    last = LAYOUTS["channels last"](inputs(4, 2, 3, 5, 7))
    node = ComplementaryLIFNode(step_mode="m")
    assert node.implementation(last).backend == "cpp"
    node(last.contiguous())
    assert "in several orders" in node.implementation(last).reason
    assert node.implementation(last.contiguous()).backend == "cpp"
    assert "in several orders" in ComplementaryLIFNode(step_mode="s").implementation(inputs(3, 5).t()).reason
    assert EIFNode(step_mode="s").implementation(inputs(3, 5).t()).backend == "cpp"


@pytest.fixture
def forgetful():
    borrowed._found.cache_clear()
    yield
    borrowed._found.cache_clear()


@pytest.mark.parametrize(
    ("name", "instead", "told"),
    [
        ("_address", lambda symbol: None, "this PyTorch has no function vmsExp that a kernel could call for exp"),
        ("_wanted", lambda target, real: [], "nothing is known of how this PyTorch computes exp"),
        (
            "_wanted",
            lambda target, real: [borrowed.Borrowed(("vmsTanh", borrowed._ALONE), "by_array(vmsTanh, @, e);")],
            "vmsTanh gives other bits than exp",
        ),
    ],
)
def test_where_a_function_cannot_be_had_the_eager_loop_runs_and_says_so(name, instead, told, monkeypatch, forgetful):
    monkeypatch.setattr(borrowed, name, instead)
    planned = EIFNode(step_mode="m").implementation(inputs(4, 3))
    assert planned.backend == "torch"
    assert told in planned.reason
    assert "spikes may flip" in planned.reason


def test_on_other_processors():
    program = (
        "import torch; from spikescope.neuron import *; x = 3 * torch.rand(4, 1003)\n"
        "for make in (ComplementaryLIFNode, EIFNode):\n"
        "    nodes = [make(step_mode='m', backend=backend) for backend in ('auto', 'torch')]\n"
        "    assert torch.equal(*[node(x) for node in nodes])\n"
        "    print(nodes[0].implementation(x).backend)\n"
    )
    for capability, backends in (("avx2", ["cpp", "cpp"]), ("default", ["torch", "cpp"])):
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
        told = fresh.run("-c", program, env=environment)
        assert told.stdout.split() == backends, told.stderr
