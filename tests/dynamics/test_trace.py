"""Tracing and the operations table: what has no row, what is computed once a call, what is exact, and a wrong row."""

import math
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from dynamics_cases import NEURONS, assert_equal, inputs, make, parity
from torch import nn

from spikescope.dynamics import layout
from spikescope.dynamics.cpp import kernel as cpp
from spikescope.dynamics.cpp import native
from spikescope.dynamics.graphs import ops, printing, program, trace
from spikescope.dynamics.graphs.graph import SAME
from spikescope.dynamics.graphs.ops import Op
from spikescope.dynamics.graphs.trace import UnsupportedOperationError
from spikescope.dynamics.triton import gpu
from spikescope.fields import option
from spikescope.neuron import EIFNode, GatedLIFNode, IFNode, LIAFNode, LIFNode, ParametricLIFNode, ResonateAndFireNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane
from spikescope.surrogate import PiecewiseExp, PoissonPass, SuperSpike

aten = torch.ops.aten
INEXACT = {"EIFNode", "LIAFNode", "ComplementaryLIFNode"}  # on a GPU: exp, tanh and sigmoid of the potential


def key_of(node):
    return node._definition(node.params()).key


def forget():
    for cached in (program.program, program.refusal, native._forward_kernel, native._backward_kernel):
        cached.cache_clear()
    for cached in (native._known_forward, native._known_backward, gpu.forward_kernel, gpu.backward_kernel):
        cached.cache_clear()


@contextmanager
def row(operation, changed):
    """The operations table with another row."""
    before = ops.OPS[operation]
    forget()
    ops.OPS[operation] = changed
    try:
        yield
    finally:
        ops.OPS[operation] = before
        forget()


def test_the_modules_share_one_table():
    assert printing.OPS is trace.OPS is ops.OPS


def test_an_operation_without_a_row():
    class BesselNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(torch.special.bessel_j0(s.v) + x)

    x_seq = inputs(4, 3)
    with pytest.raises(
        UnsupportedOperationError,
        match=r"BesselNode: its step uses the operation aten.special_bessel_j0.default, which",
    ):
        BesselNode(step_mode="m", backend="cpp")(x_seq)
    node = BesselNode(step_mode="m")
    planned = node.implementation(x_seq)
    assert planned.backend == "torch"
    assert "special_bessel_j0" in planned.reason
    assert "add the row" in planned.reason
    assert_equal(node(x_seq), BesselNode(step_mode="m", backend="torch")(x_seq), "output")


def test_an_operation_without_a_row_in_the_backward_pass_alone():
    class GammaNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v + torch.lgamma(x.abs() + 1.7))

    ops.OPS[aten.lgamma.default] = Op("__builtin_lgamma({0})", "{0}", True)
    forget()
    try:
        node = GammaNode(step_mode="m", backend="auto")
        planned = node.implementation(inputs(4, 3))
        assert planned.backend == "torch"
        assert "digamma" in planned.reason
        with torch.no_grad():
            assert node.implementation(inputs(4, 3)).backend == "cpp"
    finally:
        del ops.OPS[aten.lgamma.default]
        forget()


def test_a_surrogate_that_is_not_pointwise_and_a_part_of_another_kind():
    node = IFNode(step_mode="m", surrogate_function=PoissonPass())
    assert node.implementation(torch.rand(2, 3)) == ("torch", "PoissonPass is not a pointwise surrogate")
    node = IFNode(step_mode="m", surrogate_function=nn.Sigmoid())
    assert "neither a surrogate of spikescope.surrogate" in node.implementation(torch.rand(2, 3)).reason
    with pytest.raises(RuntimeError, match="IFNode cannot run on the backend 'cpp': a part of it is neither"):
        IFNode(step_mode="m", surrogate_function=nn.Sigmoid(), backend="cpp")(torch.rand(2, 3))


def test_a_tensor_in_a_surrogate_that_cannot_learn():
    parity(LIFNode, inputs(4, 37), fields=lambda: {"surrogate_function": SuperSpike(torch.tensor(1.7))})


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_which_neurons_are_exact(cls):
    node = make(cls, "auto")
    made = program.program(key_of(node))
    for real in (torch.float32, torch.float64):
        assert made.inexact(real, "cpp") is None
        assert (made.inexact(real, "triton") is None) is (cls.__name__ not in INEXACT)
        planned = node.implementation(inputs(4, 3, dtype=real))
        assert planned.backend == "cpp"
        assert "spikes" in planned.reason


def names(body):
    return [str(node.target).split(".")[1] for node in body.nodes]


@pytest.mark.parametrize("cls", [ParametricLIFNode, GatedLIFNode], ids=lambda cls: cls.__name__)
def test_functions_of_fields_alone_are_hoisted(cls):
    made = program.program(key_of(make(cls, "cpp")))
    body = made.forward(torch.float32)
    assert "sigmoid" not in names(body)
    assert made.inexact(torch.float32, "triton") is None
    numbers = made.model.kinds.count("n")
    results = body.prologue([0.3] * numbers)([torch.tensor(0.3)] * (len(made.model.kinds) - numbers))
    assert any(float(held) == pytest.approx(1 / (1 + math.exp(-0.3))) for held in results)
    assert "sigmoid" in names(program.program(key_of(make(EIFNode, "cpp"))).backward(torch.float32, ()))


def test_the_backward_graph_has_only_the_gradients_that_are_wanted():
    made = program.program(
        key_of(LIFNode(tau=nn.Parameter(torch.tensor(2.3)), v_threshold=nn.Parameter(torch.tensor(1.1))))
    )
    sizes = [len(made.backward(torch.float32, wanted).outputs) for wanted in ((), (0,), (0, 1))]
    assert sizes == [3, 4, 5]  # with the next state
    assert len(made.backward(torch.float32, ()).nodes) < len(made.backward(torch.float32, (0, 1)).nodes)


def test_numbers_are_rounded_as_python_floats():
    """Their functions in double precision, then one rounding where they meet a tensor."""

    class LeakyThirdNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v * (1 - 1 / (p.v_threshold * 3)) + x * (p.v_threshold / 7 + 0.1) - p.v_threshold / 11)

    for threshold in (0.7, 1.1, 0.37, 1 / 3):
        parity(LeakyThirdNode, inputs(9, 257), v_threshold=threshold, given=False)
    node = make(LeakyThirdNode, "cpp", v_threshold=0.7)
    body = program.program(key_of(node)).forward(torch.float32)
    assert 1 - 1 / (0.7 * 3) in body.prologue([0.7] * 3)([])


def test_a_prologue_tells_a_zero_from_another():
    body = program.program(key_of(make(LIFNode, "cpp", v_reset=0.0))).forward(torch.float32)
    assert {math.copysign(1, held) for held in body.prologue([-0.0] * 9)([])} != {1.0}
    assert {math.copysign(1, held) for held in body.prologue([0.0] * 9)([])} == {1.0}


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_what_changes_nothing_is_no_operation_of_a_graph(cls):
    """A gradient would read each of them as another value, computed anew at every call where it is of fields alone."""
    made = program.program(key_of(make(cls, "cpp")))
    for body in (made.forward(torch.float32), made.backward(torch.float32, made.differentiable)):
        assert not {node.target for node in body.traced.graph.nodes} & SAME


def test_numbers_in_an_example_with_functions_of_python():
    parity(ResonateAndFireNode, inputs(9, 257), b=-0.137, omega=0.773, dt=0.91, given=False)
    parity(LIFNode, inputs(9, 1000), tau=3.0, given=False)


def test_a_wrong_row_is_caught():
    """The oracle of parity sees one flipped bit: division by way of the reciprocal."""
    x_seq = inputs(9, 1000)
    with (
        row(aten.div.Tensor, Op("({0} * (1 / {1}))", "({0} * (one / {1}))")),
        pytest.raises(AssertionError, match="Tensor-likes are not equal"),
    ):
        parity(LIFNode, x_seq, tau=3.0)
    parity(LIFNode, x_seq, tau=3.0)


def test_a_wrong_row_in_the_backward_pass_is_caught():
    x_seq = inputs(5, 257)
    fields = {"surrogate_function": PiecewiseExp()}
    with (
        row(aten.exp.default, Op("exponential({0}) * real(1.0001)", "{0}", False)),
        pytest.raises(AssertionError, match="gradient of x"),
    ):
        parity(LIFNode, x_seq, fields=fields.copy)
    parity(LIFNode, x_seq, fields=fields.copy)


def test_an_act_with_weights_does_not_enter_a_kernel():
    node = LIAFNode(nn.PReLU(), threshold_related=True, step_mode="m")
    assert node.implementation(inputs(4, 3)).backend == "torch"


def test_two_neurons_of_one_form_share_a_program_and_an_option_makes_another():
    assert key_of(LIFNode(tau=2.3)) == key_of(LIFNode(tau=5.7, v_threshold=0.3))
    assert key_of(LIFNode()) != key_of(LIFNode(decay_input=False))
    assert key_of(LIFNode()) != key_of(LIFNode(v_reset=None))
    assert key_of(LIFNode()) != key_of(LIFNode(tau=torch.tensor([2.3])))


def test_a_division_by_a_power_of_two_is_a_product_with_the_same_bits():
    x = torch.randn(9, 257, generator=torch.Generator().manual_seed(0)) * 3
    for tau, written in ((2.0, True), (0.25 + 3.75, True), (3.0, False)):
        nodes = [LIFNode(tau, step_mode="m", store_v_seq=True, backend=backend) for backend in ("torch", "cpp")]
        assert torch.equal(nodes[0](x), nodes[1](x))
        assert torch.equal(nodes[0].v_seq, nodes[1].v_seq)
        definition = nodes[1]._definition(nodes[1].params())
        body = program.program(definition.key).forward(torch.float32)
        values, step = program.Values("nnnn", [], tuple(definition.numbers)), layout.layout(x)[1]
        found = native._constants(body, values, step, torch.float32).settled
        assert bool(found & body.divisors) is written
        assert ("_inverse)" in cpp.forward_source(body, torch.float32, settled=found)) is written


def with_charge(function):
    """A neuron whose potential before the reset is `function(p, s, x)`."""

    class ChargedNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(function(p, s, x))

    return ChargedNode


def written_through_an_alias(h):
    h.data.clamp_(max=0.9)
    return h


def quantised(p, s, x):
    return s.v + (x * 3).int() / 3


BY_THE_SIZE = {
    "many neurons": lambda p, s, x: s.v + x * (2.0 if x.shape[-1] > 40 else 1.0),
    "many values": lambda p, s, x: s.v + x * (2.0 if x.numel() == 4096 else 1.0),
    "a length": lambda p, s, x: s.v + x * (2.0 if len(x) >= 100 else 1.0),
    "a whole shape": lambda p, s, x: s.v + x * (2.0 if s.v.shape == (64, 64) else 1.0),
    "a size that grows": lambda p, s, x: s.v + x * (1 + x.shape[0] // 100),
    "a size less one": lambda p, s, x: s.v + x * max(1, x.size(0) - 63),
    "a root of a size": lambda p, s, x: s.v + x * max(1.0, math.sqrt(x.nelement() / 64)),
    "a size as a whole number": lambda p, s, x: s.v + x * [1.0, 2.0][int(x.shape[0]) > 40],
    "a truth of a size": lambda p, s, x: s.v + x * (2.0 if x.shape[0] // 50 else 1.0),
    "a size as a float": lambda p, s, x: s.v + x * (2.0 if float(x.dim()) > 7 else 1.0),
    "a shape's own count": lambda p, s, x: s.v + x * (2.0 if x.shape.numel() > 40 else 1.0),
    "a stride": lambda p, s, x: s.v + x * (2.0 if x.stride()[0] > 40 else 1.0),
    "a shift of bits": lambda p, s, x: s.v + x * (1 + (x.shape[0] >> 6)),
    "a number of bits": lambda p, s, x: s.v + x * (1 + x.shape[0].bit_length() // 6),
    "a quotient and rest": lambda p, s, x: s.v + x * (1 + divmod(x.shape[0], 64)[0]),
    "a size as text": lambda p, s, x: s.v + x * len(str(x.shape[0])),
    "bits of a size": lambda p, s, x: s.v + x * (1 + (x.shape[0] & 64)),
    "a rounded size": lambda p, s, x: s.v + x * (1 + round(x.shape[0], -2)),
    "a size's numerator": lambda p, s, x: s.v + x * (1.0 if x.shape[0].numerator < 40 else 2.0),
    "the kind of a device": lambda p, s, x: s.v + x * (1.0 if x.device.type == "cpu" else 2.0),
    "a layout": lambda p, s, x: s.v + x * (1.0 if x.layout is torch.strided else 2.0),
    "memory": lambda p, s, x: s.v + x * (1.0 if x.untyped_storage().nbytes() < 400 else 2.0),
    "a device": lambda p, s, x: s.v + x * (2.0 if x.is_cuda else 1.0),
    "how it lies": lambda p, s, x: s.v + x * (1.0 if x.is_contiguous() else 2.0),
}
"""Steps that take another branch where no trial comes by."""

NOT_TRACED = {
    "math of a field": (lambda p, s, x: s.v * math.exp(-1 / p.v_threshold) + x, "reads the number in a tensor"),
    "float of a field": (lambda p, s, x: s.v + x * float(p.v_threshold), "_local_scalar_dense"),
    "a choice by a field": (lambda p, s, x: s.v + (x if p.v_threshold > 0.8 else -x), "`if` or the like"),
    "a choice by the input": (lambda p, s, x: s.v + (2 * x if (x > 1).any() else x), "reads the number in a tensor"),
    "a factor of add": (lambda p, s, x: torch.add(s.v, x, alpha=2), "has arguments for which its row has no place"),
    "a factor of rsub": (lambda p, s, x: torch.rsub(x, s.v, alpha=0.3), "{'alpha': 0.3}"),
    "a factor of a number": (lambda p, s, x: s.v + torch.rsub(x, 0.37, alpha=2), "no place: [2"),
    "an integer": (quantised, "gives torch.int32"),
    "less precision": (lambda p, s, x: (s.v + x).bfloat16().float(), "gives torch.bfloat16"),
    "conditions added": (lambda p, s, x: s.v + ((x > 0) + (x > 1)) * 0.3, "conditions from comparisons alone"),
    "a shape": (lambda p, s, x: (s.v + x).expand(2, *x.shape)[0], "gives the shape [2, 3] for 3 neurons"),
    "an alias": (lambda p, s, x: written_through_an_alias(s.v * 0.5 + x), "writes through an alias"),
    "the number of neurons": (lambda p, s, x: s.v + x * (2 / x.shape[-1]), "depends on a shape"),
    **{
        f"{axes} axes": (lambda p, s, x, axes=axes: s.v + x * (0.5 if x.ndim == axes else 1.0), "depends on a shape")
        for axes in range(1, 6)
    },
    **{name: (function, "depends on a shape, a device") for name, function in BY_THE_SIZE.items()},
    "the kind of a field": (lambda p, s, x: s.v + x * (2.0 if isinstance(p.v_threshold, float) else 1.0), "a type"),
    "whether there is a graph": (lambda p, s, x: s.v + x * (2.0 if x.requires_grad else 1.0), "a mode of PyTorch"),
    "a condition that is kept as a number": (lambda p, s, x: s.v + x.clone().gt_(0.2) / 2, "gives torch.float32"),
    "three neurons": (lambda p, s, x: s.v + x * torch.ones(4), "fails on 3 neurons with"),
}


@pytest.mark.parametrize("case", NOT_TRACED)
def test_what_a_kernel_would_say_otherwise_stays_eager(case):
    function, words = NOT_TRACED[case]
    cls = with_charge(function)
    x_seq = inputs(5, 4)
    node = cls(step_mode="m")
    planned = node.implementation(x_seq)
    assert planned.backend == "torch"
    assert words in planned.reason
    assert_equal(node(x_seq), cls(step_mode="m", backend="torch")(x_seq), "output")
    with pytest.raises(UnsupportedOperationError, match=r"ChargedNode: its step .* the eager loop .* runs it"):
        cls(step_mode="m", backend="cpp")(x_seq)


TRACED = {
    "a shape that is handed on": lambda p, s, x: s.v.expand(*x.shape) + x.expand(x.shape),
    "shapes that are compared": lambda p, s, x: s.v + x if s.v.shape == x.shape and x.size(0) == s.v.size(0) else x,
    "a question of the dtype": lambda p, s, x: s.v + (x if x.is_floating_point() else x.float()),
    "a root of few numbers": lambda p, s, x: s.v + x * (1.05 - p.v_threshold) ** 0.5,
    "a condition times a number": lambda p, s, x: s.v + (x > 0) * 0.3,
    "conditions divided": lambda p, s, x: s.v + (x + (x > -100) / (x > 0)).clamp(max=2.0),
    "a function of a condition": lambda p, s, x: s.v + torch.sqrt(x > 0.2) * x,
    "a condition compared": lambda p, s, x: s.v + torch.where((x > 0) > 0.5, x, x > -1),
    "bounds that cross": lambda p, s, x: (s.v + x).clamp(1.2, 0.4),
    "a condition as a number": lambda p, s, x: s.v + (x > 0).to(x) / 3,
    "bounds": lambda p, s, x: (s.v + x).clamp(min=-0.3).clamp(max=p.v_threshold + 0.7),
    "a number of its own": lambda p, s, x: s.v + torch.where(x > 0, x, torch.scalar_tensor(0.5)),
}


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")  # of Triton's interpreter
@pytest.mark.parametrize("case", TRACED)
@pytest.mark.parametrize("backend", ["cpp", "triton"])
def test_what_a_kernel_says_alike_is_traced(case, backend):
    parity(with_charge(TRACED[case]), inputs(5, 37), backend=backend)


def test_a_number_that_is_rounded_before_it_meets_a_float64_state_stays_eager():
    cls = with_charge(lambda p, s, x: s.v + (x > 0) * 0.3)  # the product is in the default precision
    node = cls(step_mode="m")
    assert node.implementation(inputs(5, 4)).backend == "cpp"
    x_seq = inputs(5, 4).double()
    assert "gives torch.float32" in node.implementation(x_seq).reason
    assert_equal(node(x_seq), cls(step_mode="m", backend="torch")(x_seq), "output")


def test_each_precision_is_traced_for_itself():
    cls = with_charge(lambda p, s, x: s.v + x.double())
    node = cls(step_mode="m")
    assert "gives torch.float64" in node.implementation(inputs(5, 4)).reason
    assert node.implementation(inputs(5, 4).double()).backend == "cpp"


def with_option(given):
    class ChosenNode(IntegrateAndFire):
        mode: Any = option(default=given)

        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v + x * len(p.mode))

    return ChosenNode


def test_a_step_that_no_trial_of_its_rounding_suits_is_not_called_exact():
    cls = with_charge(lambda p, s, x: s.v + x * ((p.v_threshold - 0.8) * (1.05 - p.v_threshold)) ** 0.5)
    x_seq = inputs(5, 4)
    assert cls(step_mode="m").implementation(x_seq).backend == "torch"
    assert_equal(cls(step_mode="m")(x_seq), cls(step_mode="m", backend="torch")(x_seq), "output")


def test_an_option_may_hold_any_text():
    parity(with_option("a|b|n"), inputs(5, 37))


def test_an_option_that_may_change_in_place_stays_eager():
    node = with_option(())(step_mode="m", mode=[1])
    x_seq = inputs(3, 4)
    assert node.implementation(x_seq).backend == "torch"
    node.mode.append(2)
    assert_equal(node(x_seq), with_option((1, 2))(step_mode="m", backend="torch")(x_seq), "output")
