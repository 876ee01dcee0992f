"""Outputs that are stored past the caches: the same bits, and only where it is worth it."""

import math
import platform
import subprocess

import pytest
import torch
from dynamics_cases import NEURONS, assert_equal, inputs, make
from test_vectors import sources

from spikescope.dynamics.cpp import caches, native
from spikescope.dynamics.cpp.entry import given
from spikescope.dynamics.cpp.native import Run, ready_forward
from spikescope.dynamics.graphs.program import Values, program
from spikescope.dynamics.layout import TAPS, layout
from spikescope.neuron import LIFNode
from spikescope.toolchain import compiler

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture
def streamed(monkeypatch):
    """Sets from how many bytes on an output is stored past the caches."""

    def at(least):
        monkeypatch.setattr(native, "streamed_from", lambda: least)
        native._known_forward.cache_clear()

    yield at
    native._known_forward.cache_clear()


def results(cls, x_seq, threads=1, **options):
    """Output, state and potentials of a run."""
    torch.manual_seed(1)
    node, before = make(cls, "cpp", **options), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output = node(x_seq)
    finally:
        torch.set_num_threads(before)
    held = {"output": output, "v_seq": node.v_seq if node.store_v_seq else None, **node._memories}
    return {name: value.detach() for name, value in held.items() if isinstance(value, torch.Tensor)}


def compare(streamed, *args, **options):
    streamed(math.inf)
    want = results(*args, **options)
    streamed(0)
    got = results(*args, **options)
    assert want["output"].count_nonzero() > 0
    assert got.keys() == want.keys()
    for name, held in want.items():
        assert torch.equal(got[name], held), name


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_gives_the_same_bits(streamed, cls):
    compare(streamed, cls, inputs(5, 3, 256 + 80))  # whole blocks, whole chunks, and a rest


@pytest.mark.parametrize("size", [8, 64, 72, 304, 1003, 1024, 1032], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_size_gives_the_same_bits(streamed, dtype, size):
    compare(streamed, LIFNode, inputs(4, size, dtype=dtype), store_v_seq=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_and_inputs_of_other_layouts_give_the_same_bits(streamed, dtype):
    x_seq = inputs(4, 6, 8, 32, 32, dtype=dtype)
    compare(streamed, LIFNode, x_seq, threads=2)
    compare(streamed, LIFNode, x_seq.transpose(2, 4), threads=2)
    compare(streamed, LIFNode, x_seq[:1].expand(4, -1, -1, -1, -1), threads=2)
    compare(streamed, LIFNode, x_seq.reshape(4, 6, -1)[..., 3:-5])


@pytest.mark.parametrize("offset", range(9))
def test_an_output_at_any_place_gets_the_same_bits(streamed, offset):
    streamed(0)
    node, x_seq = make(LIFNode, "cpp"), inputs(4, 1024)
    p = node.params()
    made = node._definition(p)
    run = Run(made.key, torch.float32, layout(x_seq)[1], 4, 1024, (0,))
    assert run.streamed
    ready = ready_forward(run, Values(program(made.key).model.kinds, [], tuple(made.numbers)))
    memory, start, end = torch.full([4 * 1024 + 16], 7.0), torch.zeros(()), torch.empty(1024)
    y = memory[offset : offset + 4 * 1024]
    addresses = [x_seq.data_ptr(), y.data_ptr(), 0, 0, 1, start.data_ptr(), end.data_ptr(), *(0 for _ in TAPS)]
    ready.kernel(ready.fixed, given(len(addresses))(*addresses))
    assert_equal(y.view(4, 1024), make(LIFNode, "torch")(x_seq), "output")
    assert torch.equal(memory[:offset], torch.full([offset], 7.0))
    assert torch.equal(memory[offset + y.numel() :], torch.full([16 - offset], 7.0))


@pytest.mark.parametrize("monitored", ["count", "packed"])
def test_a_monitor_sees_the_same_bits(streamed, monitored):
    node, x_seq = make(LIFNode, "cpp"), inputs(5, 3, 304)
    seen = []
    for least in (math.inf, 0):
        streamed(least)
        p = node.params()
        run = native.forward(
            (made := node._definition(p)).key,
            x_seq,
            [0.0],
            Values(program(made.key).model.kinds, [], tuple(made.numbers)),
            False,
            False,
            frozenset({monitored}),
        )
        seen.append(run.taps[monitored])
    assert torch.equal(*seen)
    assert seen[0].count_nonzero() > 0


def test_input_and_output_together_decide(streamed):
    step = layout(torch.empty(4, 1024))[1]
    run = Run("key", torch.float32, step, 4, 1024, (0,))
    for least, alone, repeated in ((5 * 4096, True, True), (5 * 4096 + 1, True, False), (8 * 4096 + 1, False, False)):
        streamed(least)
        assert run.streamed is alone
        assert run._replace(stride=0).streamed is repeated
    streamed(0)
    assert [run._replace(io=io).streamed for io in DTYPES] == [True, True, False, False]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction is one of x86")
@pytest.mark.parametrize("flags", [["-march=haswell"], ["-march=x86-64-v4"], ["-march=x86-64"]], ids=str)
def test_it_is_an_instruction_of_its_own_where_vectors_have_eight_numbers(flags, tmp_path):
    path = tmp_path / "kernel.cpp"
    path.write_text(next(sources(LIFNode)))
    words = [compiler.command()[0], *compiler.FLAGS, *flags, "-S", "-o", "-", path]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert ("movnt" in told) is (flags == ["-march=haswell"])
    assert ("sfence" in told) is (flags != ["-march=x86-64-v4"])


def machine(root, vendor, *cores):
    """What Linux tells of a processor whose cores have the third-level caches given: their sizes, and of whom."""
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    for number, (size, shared) in enumerate(cores):
        for index, level, held in ((0, 1, "32K"), (2, 2, "512K"), (3, 3, size)):
            folder = root / f"sys/devices/system/cpu/cpu{number}/cache/index{index}"
            folder.mkdir(parents=True)
            for name, told in (("level", level), ("size", held), ("shared_cpu_list", shared)):
                (folder / name).write_text(f"{told}\n")
    return root


@pytest.mark.parametrize(
    ("cores", "megabytes"),
    [
        ([("32768K", "0-1"), ("32768K", "0-1")], 4),
        ([("32768K", "0"), ("32768K", "1")], 8),
        ([("16384K", "0")], 2),
        ([], 4),
    ],
)
def test_a_backward_pass_takes_chunks_from_an_eighth_of_the_last_caches_on(cores, megabytes, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "SYSTEM", machine(tmp_path, "GenuineIntel", *cores))
    monkeypatch.setattr(caches.os, "sched_getaffinity", lambda _: set(range(2)))
    caches.far_from.cache_clear()
    try:
        assert caches.far_from() == megabytes << 20
        _, step = layout(torch.empty(1, megabytes << 18))
        runs = [Run("key", dtype, step, 1, step.numel, (0,)) for dtype in (torch.float32, torch.float16)]
        assert [run.large for run in runs] == [True, False]
    finally:
        monkeypatch.undo()
        caches.far_from.cache_clear()


@pytest.mark.parametrize(
    ("vendor", "cores", "megabytes"),
    [
        ("AuthenticAMD", [("32768K", "0-1"), ("32768K", "0-1")], 32),
        ("AuthenticAMD", [("32768K", "0"), ("32768K", "1")], 64),
        ("AuthenticAMD", [("16384K", "0")], 16),
        ("AuthenticAMD", [("", "0")], math.inf),
        ("AuthenticAMD", [], math.inf),
        ("GenuineIntel", [("32768K", "0")], math.inf),
    ],
)
def test_it_is_worth_it_from_the_size_of_the_last_caches_on(vendor, cores, megabytes, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "SYSTEM", machine(tmp_path, vendor, *cores))
    monkeypatch.setattr(caches.os, "sched_getaffinity", lambda _: set(range(2)))
    caches.streamed_from.cache_clear()
    assert caches.streamed_from() == megabytes * 2**20
    monkeypatch.setattr(caches, "SYSTEM", tmp_path / "nothing")
    caches.streamed_from.cache_clear()
    assert caches.streamed_from() == math.inf
    monkeypatch.undo()
    caches.streamed_from.cache_clear()
