"""What a call on a GPU makes besides what its kernel fills: nothing. No GPU is needed to count it."""

import warnings
from collections import Counter

import pytest
import torch
from dynamics_cases import NEURONS, inputs, make, unround
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import fresh
from spikescope.dynamics import layout
from spikescope.dynamics.graphs import program
from spikescope.dynamics.graphs.program import Values
from spikescope.dynamics.triton import arguments, gpu, launch
from spikescope.neuron import LIFNode
from spikescope.sockets import points

pytest.importorskip("triton")

CUDA = torch.device("cuda")
COPIES = {"_to_copy", "copy_", "lift_fresh", "lift_fresh_copy", "scalar_tensor", "full", "fill_", "_local_scalar_dense"}


class Calls(TorchDispatchMode):
    """Counts the operations that make a tensor of a number, or move one between host and device."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in COPIES:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def launched(monkeypatch):
    """The arguments of every kernel that would run on the GPU."""
    seen = []
    monkeypatch.setattr(gpu, "launch", lambda kernel, device, blocks, arguments, **_: seen.append((kernel, arguments)))
    monkeypatch.setattr(
        arguments, "interpreted", lambda: True
    )  # its own kernels: those of a GPU would need its compiler
    monkeypatch.setattr(arguments, "_captured", lambda device: False)
    return seen


def kernels(cls, device):
    """The forward and backward calls of a neuron from rest, as the operators make them."""
    node = make(cls, "auto")
    made = node._definition(node.params())
    state = list(cls.rest(node.params()))
    values = Values(program.program(made.key).model.kinds, [], tuple(made.numbers))
    x_seq, gy = (torch.empty(4, 3, 16, device=device) for _ in range(2))

    def call():
        gpu.forward(made.key, x_seq, state, values, True, True, frozenset([layout.support_tap(1.0, -0.5, 0.5)]))
        gpu.backward(made.key, x_seq, state, values, (), None, gy, None, [None] * len(state))

    return call


@pytest.mark.parametrize(
    "cls",
    [c for c in NEURONS if not any(isinstance(h, torch.Tensor) for h in make(c, "auto").params())],
    ids=lambda cls: cls.__name__,
)
def test_no_call_of_a_kernel_makes_a_tensor_of_a_number(cls, launched):
    kernels(cls, torch.device("cpu"))()  # traces and prints
    launched.clear()
    with FakeTensorMode(), Calls() as calls:
        kernels(cls, CUDA)()
    assert not calls.seen
    assert len(launched) == 2
    for _, given in launched:
        assert all(held.is_cuda for held in given if isinstance(held, torch.Tensor))
        assert any(isinstance(held, float) for held in given)


@pytest.mark.parametrize("default", ["cpu", "cuda"])
def test_no_call_of_a_neuron_makes_a_tensor_of_a_number(default):
    """From rest, right after a reset, and going on; also where tensors are made on the GPU by default."""
    node = LIFNode(step_mode="m")
    with FakeTensorMode(), torch.device(default):
        x_seq = torch.empty(4, 3, 16, device="cuda")
        assert node.implementation(x_seq).backend == "triton"
        node(x_seq)
        for prepare in (node.reset, lambda: None):
            prepare()
            with Calls() as calls:
                node(x_seq)
            assert not calls.seen


def test_numbers_are_arguments_and_fields_on_the_device_are_pointers(launched):
    node = make(LIFNode, "auto", {"tau": 2.37, "v_threshold": 0.1})
    made = node._definition(node.params())
    values = Values(program.program(made.key).model.kinds, [], tuple(made.numbers))
    for dtype, real in ((torch.float32, "fp32"), (torch.float64, "fp64")):
        x_seq = inputs(4, 16, dtype=dtype)
        gpu.forward(made.key, x_seq, [0.1], values, False, False, frozenset())
        kernel, given = launched.pop()
        floats = [held for held in given if isinstance(held, float)]
        assert {0.1, 2.37} <= set(floats)  # as Python has them: the argument's type rounds them once
        assert _types(kernel, given) == {real}
    unround(node, ())
    made = node._definition(node.params())
    values = Values(program.program(made.key).model.kinds, [held.detach() for held in made.tensors], ())
    gpu.forward(made.key, inputs(4, 16), [0.1], values, False, False, frozenset())
    assert [held for held in launched.pop()[1] if isinstance(held, float)] == [0.1]


def _types(kernel, given):
    """The annotations of the arguments that are numbers with a fraction."""
    annotations = kernel.fn.__annotations__
    names = kernel.arg_names[: len(given)]
    return {annotations[name].name for name, held in zip(names, given, strict=True) if isinstance(held, float)}


def test_a_divisor_on_the_cpu_is_what_eager_cuda_makes_of_it(launched, monkeypatch):
    """It multiplies by the reciprocal of a number that is on the CPU, and divides by one on the device."""
    node = make(LIFNode, "auto", {"tau": torch.tensor(2.37)})
    made = node._definition(node.params())
    values = Values(program.program(made.key).model.kinds, made.tensors, tuple(made.numbers))
    body, step = program.program(made.key).forward(torch.float32), layout.layout(inputs(4, 16))[1]
    for device, host in ((CUDA, True), (torch.device("cpu"), False)):
        constants = arguments.constants_of(body, values, step, torch.float32, device)
        form = arguments.form_of(torch.float32, [0.0], constants)._replace(gpu=True)
        text = gpu.forward_source(body, form)
        quotient = [line for line in text.splitlines() if "v_div" in line.split("=")[0]]
        assert any("* divide(one, " in line for line in quotient) is host, quotient
    monkeypatch.setattr(arguments, "_captured", lambda device: True)
    with pytest.raises(RuntimeError, match="captured CUDA graph would read once and for ever"):
        arguments.constants_of(body, values, step, torch.float32, CUDA)


@pytest.fixture
def a_gpu(monkeypatch):
    """A machine that has a GPU, as far as the choice of a backend sees."""
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(launch, "_has_device", lambda: True)
    launch._fault.cache_clear()
    yield
    launch._fault.cache_clear()


def _no_compiler(source):
    class Kernel:
        def __getitem__(self, grid):
            raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    return type("Module", (), {"spikescope_probe": Kernel()})


def test_without_a_compiler_of_c_auto_takes_the_eager_loop_with_one_warning(a_gpu, monkeypatch):
    monkeypatch.setattr(launch, "load", _no_compiler)
    with FakeTensorMode():
        x_seq = torch.empty(4, 3, device="cuda")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            plans = [LIFNode(step_mode="m").implementation(x_seq) for _ in range(3)]
        assert [plan.backend for plan in plans] == ["torch"] * 3
        assert "apt install gcc" in plans[0].reason
        assert [str(w.message)[:52] for w in seen] == ["Neurons run as the slower eager loop on the GPU: Tri"]
        with pytest.raises(RuntimeError, match=r"cannot run on the backend 'triton': .*It needs a C compiler"):
            LIFNode(step_mode="m", backend="triton")(x_seq)


def test_a_triton_that_flushes_subnormal_quotients_is_not_used(a_gpu, monkeypatch):
    monkeypatch.setattr(launch, "_failure_of_probe", lambda: None)
    monkeypatch.setattr("triton.__version__", "3.5.1")
    with FakeTensorMode(), pytest.warns(RuntimeWarning, match=r"Install Triton 3\.6 or newer"):
        assert LIFNode(step_mode="m").implementation(torch.empty(4, 3, device="cuda")).backend == "torch"
    monkeypatch.setattr("triton.__version__", "3.10.0+git1")
    launch._fault.cache_clear()
    assert launch.fault() is None


def test_a_kernel_that_cannot_be_started_later_says_so(a_gpu, monkeypatch):
    """As where the compiler is gone and the cache holds the probe alone."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: warnings.catch_warnings())
    with pytest.raises(launch.LaunchError, match="backend='torch' runs the eager loop"):
        launch.launch(_no_compiler("").spikescope_probe, torch.device("cuda", 0), 1, [])


def test_no_graph_replays_past_a_monitor():
    """A replay calls no Python: what hands values to monitors must stay out of the compiler's graphs."""
    for operator in (points.tap, points.tap_gradient):
        assert torch.Tag.cudagraph_unsafe in operator.tags
    script = "import torch; torch.set_default_device('meta'); from spikescope.sockets import points as s; "
    script += "assert {s._forward_token.device.type, s._backward_token.device.type} == {'cpu'}"
    fresh.run("-c", script, check=True)
