"""The Triton kernels in Triton's interpreter against the eager loop, and compiled for a GPU that is not there."""

import inspect
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from dynamics_cases import NEURONS, SURROGATES, assert_equal, inputs, parity
from test_taps import NAMES, check, tapped

from spikescope.dynamics import launch
from spikescope.neuron import AdaptiveLIFNode, LIFNode

pytest.importorskip("triton")

interpreted = pytest.mark.skipif(not launch.interpreted(), reason="TRITON_INTERPRET is 0")


@interpreted
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron(cls):
    parity(cls, inputs(10, 3, 37) / 2, (), backend="triton", store_v_seq=True)


@interpreted
@pytest.mark.parametrize("spiking", [True, False], ids=["spiking", "smooth"])
@pytest.mark.parametrize("cls", SURROGATES, ids=lambda cls: cls.__name__)
def test_every_surrogate(cls, spiking):
    if not spiking and not cls.has_primitive():
        pytest.skip("it has no smooth form")
    fields = lambda: {"surrogate_function": cls(**cls.example, spiking=spiking)}  # noqa: E731
    parity(LIFNode, inputs(3, 2, 19), (), fields, backend="triton")


@interpreted
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(dtype):
    parity(LIFNode, inputs(5, 3, 37, dtype=dtype), (), backend="triton", store_v_seq=True)


@interpreted
@pytest.mark.parametrize("steps", [0, 1, 7, 8, 9, 17])
@pytest.mark.parametrize("cls", [LIFNode, AdaptiveLIFNode], ids=lambda cls: cls.__name__)
def test_lengths_about_the_segments_of_the_backward_pass(cls, steps):
    parity(cls, inputs(steps, 3, 5), (), backend="triton")


@interpreted
@pytest.mark.parametrize("shape", [(300,), (3, 1, 1), (3, 2, 50), (1, 3, 2, 50), (2, 1, 1, 1)], ids=str)
def test_fields_of_many_shapes(shape):
    x_seq = inputs(5, 2, 300) if len(shape) == 1 else inputs(5, 2, 3, 2, 50)
    parity(LIFNode, x_seq, shape, backend="triton")


@interpreted
def test_numbers_soft_reset_and_fixed_tensors():
    options = {"v_reset": None, "detach_reset": True, "decay_input": False, "tau": 2.37}
    parity(LIFNode, inputs(9, 37), backend="triton", **options)
    parity(LIFNode, inputs(9, 37), backend="triton", fields=lambda: {"tau": torch.tensor(2.37)}, given=False)
    parity(LIFNode, inputs(2, 0, 5), (), backend="triton")


@interpreted
def test_layouts():
    channels_last = inputs(6, 3, 5, 7).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    for x_seq in (channels_last, inputs(2, 3, 3, 4).transpose(0, 1), inputs(1, 2, 37).expand(4, -1, -1)):
        parity(LIFNode, x_seq, backend="triton", store_v_seq=True)


@interpreted
def test_state_is_carried_over_calls():
    want = parity(LIFNode, inputs(9, 37), (), backend="triton")
    got = parity(LIFNode, inputs(9, 37), (), calls=3, backend="triton")
    assert_equal(got.forward["output"], want.forward["output"], "output")


@interpreted
def test_a_kernel_is_launched_on_the_device_of_its_tensors(monkeypatch):
    launched = []

    @contextmanager
    def current(device):
        launched.append(device)
        yield
        launched.append("launched")

    kernel = {(1,): lambda *arguments, **options: launched.append(sorted(options))}
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", current)
    device = torch.device("cuda", 1)
    launch.launch(kernel, device, 3, [])
    assert launched == [device, ["BLOCK", "enable_fp_fusion", "num_warps"], "launched"]


def test_the_text_of_a_kernel_is_in_no_file():
    found = launch.load("import triton\n\n\n@triton.jit\ndef kernel(x):\n    pass\n")
    assert "def kernel" in inspect.getsource(found.kernel.fn)
    assert not os.path.exists(found.__file__)


def test_taps():
    for x_seq in (inputs(5, 300), inputs(5, 3, 37, dtype=torch.bfloat16), inputs(260, 3)):
        check(LIFNode, x_seq, backend="triton")
    check(LIFNode, inputs(4, 3, 5, 7).to(memory_format=torch.channels_last).unflatten(0, (2, 2)), backend="triton")


@interpreted
def test_taps_of_no_neurons():  # a block that is written all the same would be past the end of the memory
    _, taps = tapped(LIFNode, torch.empty(4, 0), backend="triton")
    assert all(taps[name].numel() == 0 for name in NAMES)


COMPILE = """
import sys, torch, triton
from triton.compiler import ASTSource
from triton.backends.compiler import GPUTarget
from spikescope import neuron
from spikescope.dynamics import gpu, layout, program

def compiled(kernel, io, real, constants):
    types = {}
    for name in kernel.arg_names:
        if name in constants:
            types[name] = "constexpr"
        elif name in ("X", "Y", "GX", "GY"):
            types[name] = "*" + io
        elif name in ("T", "n", "sx", "sgy") or name[0] == "L" or name.endswith("_period"):
            types[name] = "i32"
        else:
            taps = {"TAP0": "*u8", "TAP1": "*u8", "TAP3": "*fp64", "TAP4": "*i64"}
            types[name] = taps.get(name, "*fp64" if name[0] == "P" else real)
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, types, constexprs=places)
    options = {"num_warps": 2, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]

for name, io in (("LIFNode", "fp16"), ("LIFNode", "bf16"), ("AdaptiveLIFNode", "fp32"), ("IFNode", "fp64")):
    node = getattr(neuron, name)(step_mode="m")
    node.v_threshold = torch.nn.Parameter(torch.tensor(1.1))
    key = node._definition(node.params()).key
    made = program.program(key)
    dtype, real = (torch.float64, "*fp64") if io == "fp64" else (torch.float32, "*fp32")
    taps = layout.kinds_of_taps(frozenset([*layout.TAPS, layout.support_tap(1.0, -0.5, 0.5)]))
    forward = compiled(
        gpu._forward_kernel(key, dtype, taps), io, real, {"K": 8, "KEEP_V": True, "KEEP_CK": True, "BLOCK": 256}
    )
    assert "fma" not in forward, name
    assert "div.full" not in forward and "div.approx" not in forward, name
    wanted = made.differentiable
    length = layout.segment_length("triton", 100, made.states)
    backward = gpu._backward_kernel(key, dtype, wanted, length, tuple(True for _ in wanted))
    compiled(backward, io, real, {"HAS_CK": True, "KEEP_V": True, "HAS_G": True, "BLOCK": 256})
    print(name, io)
"""


def test_the_kernels_compile_for_a_gpu_without_fused_multiply_add(tmp_path):
    """A fused multiply-add rounds once where PyTorch rounds twice, and so may flip a spike."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["LIFNode", "fp16", "LIFNode", "bf16", "AdaptiveLIFNode", "fp32", "IFNode", "fp64"]


GPU = """
import torch
from dynamics_cases import NEURONS, assert_close, inputs, make, run, unround
for cls in NEURONS:
    for shape in ((), None):
        results = []
        for backend in ("torch", "triton"):
            node = make(cls, backend)
            if shape is not None:
                unround(node, shape)
            results.append(run(node.cuda(), (inputs(10, 3, 137) / 2).cuda()))
        for got, want in zip(*[{**r.forward, **r.gradients}.items() for r in results], strict=True):
            assert_close(got[1].cpu(), want[1].cpu(), f"{cls.__name__}: {got[0]}")
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_every_neuron_on_a_gpu():
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", GPU], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
