"""Functions of kernels on a GPU of NVIDIA, which are those of PyTorch there: what is tried, and what is said of it."""

import pytest
import torch
from dynamics_cases import NEURONS, inputs, make
from torch._subclasses.fake_tensor import FakeTensorMode

from spikescope.dynamics.graphs.ops import CUDA
from spikescope.dynamics.graphs.program import program
from spikescope.dynamics.triton import launch, trial
from spikescope.dynamics.triton.kernel import TRIAL, trial_source
from spikescope.neuron import EIFNode, LIAFNode

pytest.importorskip("triton")

aten = torch.ops.aten


@pytest.fixture
def of_nvidia(monkeypatch):
    """A machine with a GPU of NVIDIA, as far as the choice of a backend sees."""
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(launch, "fault", lambda: None)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_is_fused_on_a_gpu(cls, of_nvidia):
    node = make(cls, "auto")
    assert program(node._definition(node.params()).key).inexact(torch.float32, "triton") is None


@pytest.mark.parametrize("cls", [EIFNode, LIAFNode], ids=lambda cls: cls.__name__)
def test_what_would_run_on_a_gpu(cls, of_nvidia):
    with FakeTensorMode():
        x = torch.empty(4, 2, 3, device="cuda")
        assert cls(**cls.example, step_mode="m").implementation(x).backend == "triton"
        assert cls(**cls.example, step_mode="m").implementation(x.double()).backend == "torch"


def test_a_function_of_other_bits_is_left_to_the_eager_loop_in_words(of_nvidia, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    capturing = [False]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a card")
    monkeypatch.setattr(trial, "_tried", lambda target, device: target is aten.exp.default)
    trial._difference.cache_clear()
    try:
        assert trial.otherwise(aten.tanh.default, torch.float32) is None
        assert trial.otherwise(aten.exp.default, torch.float32) == "on a card a kernel gives other bits than PyTorch"
        assert trial.otherwise(aten.exp.default, torch.float64) == "a kernel on a GPU has a function of its own"
        capturing[0] = True
        assert "run the network once before" in trial.otherwise(aten.exp.default, torch.float32)
        capturing[0] = False
        monkeypatch.setattr(torch.version, "hip", "6.0")
        assert trial.otherwise(aten.tanh.default, torch.float32) == "a kernel on a GPU has a function of its own"
    finally:
        trial._difference.cache_clear()


@pytest.mark.skipif(not launch.interpreted(), reason="TRITON_INTERPRET is 0")
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy, of what is no number
def test_a_trial_tells_one_function_from_another(monkeypatch):
    monkeypatch.setattr(trial, "_STEP", (1 << 21) + 1)
    monkeypatch.setitem(CUDA, aten.abs.default, "magnitude({0})")
    assert not trial._tried(aten.abs.default, torch.device("cpu"))
    monkeypatch.setitem(CUDA, aten.abs.default, "tl.where({0} < 0, -{0}, {0})")  # of -0 that is -0
    assert trial._tried(aten.abs.default, torch.device("cpu"))


@pytest.mark.skipif(not launch.interpreted(), reason="TRITON_INTERPRET is 0")
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_the_steps_of_the_exponential():
    """In the interpreter, whose products and sums are not fused, it is one within a few roundings."""
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, 89.0, -104.0, -87.5, -100.0])
    x = torch.cat((special, 30 * inputs(500)))
    y = torch.empty_like(x)
    kernel = getattr(launch.load(trial_source(CUDA[aten.exp.default])), TRIAL)
    launch.launch(kernel, x.device, 2, [x, y, x.numel()])
    want = x.double().exp().float()
    torch.testing.assert_close(y, want, rtol=2e-5, atol=3e-45, equal_nan=True)
