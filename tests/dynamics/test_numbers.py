"""Numbers, 0-dim tensors and Parameters of any dtype among the fields: the kernel computes as the eager loop does."""

import itertools
import math

import pytest
import torch
from dynamics_cases import NEURONS, SURROGATES, assert_equal, inputs, make, parity, run
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sample import sample
from spikescope.dynamics.graphs.program import program
from spikescope.dynamics.graphs.prologue import _BY_PYTORCH
from spikescope.neuron import EIFNode, IFNode, LIFNode, ResonateAndFireNode, TernaryIFNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane
from spikescope.surrogate import ATan, NonzeroSignLogAbs, PiecewiseLeakyReLU, QPseudoSpike, Sigmoid
from spikescope.surrogate.core import _learned_by

MIXES = [mix for mix in itertools.product("nsa", repeat=3) if len(set(mix)) > 1]
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-40, -1e-40, 3e38, -3e38, 1.0]


def of_kind(kind, number, dtype):
    """A field: a number, a 0-dim tensor or one of a value per neuron."""
    return number if kind == "n" else torch.full(() if kind == "s" else (7,), number, dtype=dtype)


@pytest.mark.slow(keep=6)
@pytest.mark.parametrize("mix", MIXES, ids="".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_numbers_meet_tensors_in_every_mix(mix, dtype):
    values = {"b": -0.2, "omega": 1.1, "dt": 0.9}
    fields = {name: of_kind(kind, v, dtype) for (name, v), kind in zip(values.items(), mix, strict=True)}
    for real in (torch.float32, torch.float64):
        parity(ResonateAndFireNode, 0.4 * inputs(20, 40, 7, dtype=real), fields=fields.copy, given=False)


def test_an_exact_neuron_of_numbers_and_a_learnable_one():
    x_seq = 1.3 * torch.randn(50, 3000, generator=torch.Generator().manual_seed(0)) + 0.1
    found = []
    for backend in ("torch", "auto"):
        node = make(ResonateAndFireNode, backend, {"omega": nn.Parameter(torch.tensor(1.0))})
        with torch.no_grad():
            found.append((node(x_seq), node.v, node.u))
    assert node.implementation(x_seq).backend == "cpp"
    for got, want in zip(found[1], found[0], strict=True):
        assert_equal(got, want, "output, v or u")


DIVIDED = {
    "a number by a number": lambda p, s, x: s.v + x * (2.9 / p.v_threshold),
    "a field by a field": lambda p, s, x: s.v + x * (p.v_threshold / p.v_reset),
    "a number by the input": lambda p, s, x: s.v + p.v_threshold / (1.7 + x * x),
    "a power of a number": lambda p, s, x: s.v + x * p.v_threshold**2.3 + 1.3**p.v_threshold,
    "a number less a number": lambda p, s, x: s.v + x * (1 - p.v_threshold) - abs(-p.v_reset),
}


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", DIVIDED)
def test_arithmetic_of_fields_is_that_of_python(case, real):
    class ChargedNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(DIVIDED[case](p, s, x))

    for threshold, reset in ((1.7, 0.3), (0.9, 0.7), (1.1, 1.3)):
        for fields in (
            {"v_threshold": threshold, "v_reset": reset},
            {"v_threshold": threshold, "v_reset": torch.tensor(reset)},
        ):
            parity(ChargedNode, inputs(7, 257, dtype=real), fields=fields.copy, given=False)
    assert make(ChargedNode, "auto", fields).implementation(inputs(7, 257, dtype=real)).backend == "cpp"


def test_a_step_that_rounds_a_number_in_its_own_way_is_not_exact():
    class NarrowNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v + x * (torch.as_tensor(p.v_threshold) / 3))  # a float becomes float32, a tensor stays

    node = make(NarrowNode, "auto", {"v_threshold": 0.7})
    x_seq = inputs(5, 40, dtype=torch.float64)
    assert "in a way of its own" in program(node._definition(node.params()).key).inexact(torch.float64, "cpp")
    assert node.implementation(x_seq).backend == "torch"


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("surrogate", [ATan, QPseudoSpike], ids=lambda cls: cls.__name__)
def test_a_field_of_a_surrogate_is_of_the_dtype_of_the_state(surrogate, dtype, real):
    held = torch.tensor(2.3, dtype=dtype)
    parity(LIFNode, inputs(5, 257, dtype=real), fields=lambda: {"surrogate_function": surrogate(held)})


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize(
    "cls", [cls for cls in SURROGATES if cls.dynamic and cls.has_primitive()], ids=lambda c: c.__name__
)
def test_a_learned_surrogate_leaves_the_spike_of_any_potential(cls):
    x = torch.tensor(SPECIAL)
    plain = cls(**cls.example)
    learned = cls(**cls.example, **{name: nn.Parameter(torch.tensor(getattr(plain, name))) for name in cls.dynamic})
    assert_equal(learned(x).detach(), plain(x), cls.__name__)
    results = []
    for backend in ("torch", "cpp"):
        fields = {name: nn.Parameter(torch.tensor(getattr(plain, name))) for name in cls.dynamic}
        node = make(IFNode, backend, {"surrogate_function": cls(**cls.example, **fields)})
        results.append(run(node, x.repeat(2, 1)))
    for name, held in results[0].forward.items():
        assert_equal(results[1].forward[name], held, name)
    for name, held in results[0].gradients.items():
        assert torch.equal(results[1].gradients[name].isnan(), held.isnan()), name


def test_a_learned_surrogate_in_forward_mode_leaves_the_spike_too():
    smooth = torch.tensor([math.inf, math.nan, 0.3])
    y, tangent = torch.func.jvp(lambda s: _learned_by(torch.tensor([1.0, 0.0, 1.0]), s), (smooth,), (torch.ones(3),))
    assert y.tolist() == [1.0, 0.0, 1.0]
    assert tangent.tolist() == [0.0, 0.0, 1.0]


INFINITE = [cls for cls in NEURONS if (spec := cls.fields.get("v_threshold")) is not None and spec.infinite]


WAYS = [(cls, soft) for cls in INFINITE if cls is not EIFNode for soft in (False, True)]


@pytest.mark.parametrize(("cls", "soft"), WAYS)
def test_an_infinite_threshold_is_never_reached(cls, soft):
    """Of numbers, of all neurons and of some: no spike, V = H, and no NaN in any gradient."""
    assert_never_reached(
        lambda x_seq, fields, **more: run(make(cls, "torch", fields, **more), x_seq, given=True), cls, soft
    )


# Operation for operation a kernel is the eager loop: that is tested of every neuron.
@pytest.mark.parametrize(("cls", "soft"), sample(WAYS, (LIFNode, False), (TernaryIFNode, True)))
def test_kernels_reach_no_infinite_threshold(cls, soft):
    assert_never_reached(
        lambda x_seq, fields, **options: parity(cls, x_seq, fields=lambda: fields, **options), cls, soft
    )


def assert_never_reached(tried, cls, soft):
    x_seq = inputs(5, 6, 4) / 3
    options = {"v_reset": None} if soft and "v_reset" in cls.arguments.parameters else {}
    for held in (math.inf, torch.tensor(math.inf), torch.tensor([1.0, math.inf, 0.5, math.inf])):
        result = tried(x_seq, {"v_threshold": held}, store_v_seq=True, **options)
        never = torch.as_tensor(held).expand(4).isinf()
        if cls.__name__ != "LIAFNode":  # its output is no spike
            assert not result.forward["output"][..., never].any()
        assert not any(held.isnan().any() for held in (*result.forward.values(), *result.gradients.values()))


def every_surrogate_and_reset(test):
    resets = [{}, {"v_reset": None}, {"detach_reset": True}]
    test = pytest.mark.parametrize("options", resets, ids=["hard", "soft", "detached"])(test)
    return pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda cls: cls.__name__)(test)


@every_surrogate_and_reset
def test_the_gradient_below_an_infinite_threshold_is_that_without_one(surrogate, options):
    assert_as_without_a_threshold("torch", surrogate, options)


@pytest.mark.slow(keep=2)
@every_surrogate_and_reset
def test_kernels_give_the_gradient_below_an_infinite_threshold_too(surrogate, options):
    assert_as_without_a_threshold("cpp", surrogate, options)


def assert_as_without_a_threshold(backend, surrogate, options):
    w = torch.ones(1, requires_grad=True)
    for threshold in (math.inf, nn.Parameter(torch.tensor(math.inf))):
        made = surrogate(**surrogate.example)
        node = make(LIFNode, backend, {"v_threshold": threshold, "surrogate_function": made}, **options)
        y = node(torch.ones(3, 1) * w)
        (gradient,) = torch.autograd.grad(node.v.sum() + y.sum(), w)
        assert gradient.item() == pytest.approx(0.875)
        assert node.v.item() == pytest.approx(0.875)


@pytest.mark.parametrize("surrogate", [Sigmoid, NonzeroSignLogAbs, PiecewiseLeakyReLU], ids=lambda cls: cls.__name__)
def test_a_smooth_neuron_of_infinite_threshold_gives_nothing_out(surrogate):
    for backend in ("torch", "cpp"):
        node = make(IFNode, backend, {"v_threshold": math.inf, "surrogate_function": surrogate(spiking=False)})
        assert node(torch.ones(3, 2)).count_nonzero() == 0
        assert node.v.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("given", [math.nan, -math.inf, torch.tensor([1.0, math.nan])], ids=str)
def test_a_threshold_that_is_no_number_is_refused(given):
    with pytest.raises(ValueError, match="LIFNode: v_threshold must be a number or infinity, but got"):
        LIFNode(v_threshold=given)


@pytest.mark.parametrize("operation", _BY_PYTORCH, ids=str)
def test_a_function_of_pytorch_is_the_operation_that_it_stands_for(operation):
    called = []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(func)
            return func(*args, **(kwargs or {}))

    x = torch.rand(3)
    with Listening():
        _BY_PYTORCH[operation](x)
    assert called == [operation]
