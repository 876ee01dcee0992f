"""The Triton kernels in Triton's interpreter against the eager loop, and compiled for a GPU that is not there."""

import inspect
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from dynamics_cases import NEURONS, SURROGATES, assert_equal, inputs, parity
from test_taps import NAMES, check, tapped

import fresh
from spikescope.dynamics.triton import launch
from spikescope.neuron import AdaptiveLIFNode, LIFNode

pytest.importorskip("triton")

interpreted = pytest.mark.skipif(not launch.interpreted(), reason="TRITON_INTERPRET is 0")


@interpreted
@pytest.mark.slow(keep=8)
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron(cls):
    parity(cls, inputs(10, 3, 37) / 2, (), backend="triton", store_v_seq=True)


@interpreted
@pytest.mark.slow(keep=4)
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

    kernel = {(1, 1, 1): lambda *arguments, **options: launched.append(sorted(options))}
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", current)
    device = torch.device("cuda", 1)
    unaligned = torch.empty(8, dtype=torch.uint8)[1:]  # of another the code would be kept
    launch.Launcher(kernel, device, 1)([unaligned])
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


def test_the_kernels_compile_for_a_gpu_with_the_arithmetic_of_pytorch(tmp_path):
    """A fused multiply-add rounds once where PyTorch rounds twice, and so may flip a spike."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).parents[1] / "sweeps" / "triton_ptx.py"
    program = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = fresh.run("-c", program, "--sample", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert ": 10 kernels, 0 wrong" in done.stdout
