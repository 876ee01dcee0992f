"""Every row of the operations table against PyTorch, in C++ and in Triton's interpreter, at awkward values too."""

from collections import namedtuple

import pytest
import torch
from dynamics_cases import assert_equal, inputs

from registries import apart
from spikescope.dynamics.cpp.borrowed import missing
from spikescope.dynamics.eager import Step
from spikescope.dynamics.graphs.ops import OPS, PASS
from spikescope.dynamics.graphs.program import program
from spikescope.dynamics.triton import launch
from spikescope.neuron import PointwiseNeuron

aten = torch.ops.aten
OPERATIONS = {
    "add": lambda a, b: a + b,
    "add_number": lambda a, b: a + 0.37,
    "add_overload": lambda a, b: aten.add.Scalar(a, 0.37),
    "sub": lambda a, b: a - b,
    "sub_overload": lambda a, b: aten.sub.Scalar(a, 0.37),
    "rsub": lambda a, b: 0.37 - a,
    "rsub_tensor": aten.rsub.Tensor,
    "mul": lambda a, b: a * b,
    "mul_overload": lambda a, b: aten.mul.Scalar(a, 0.37),
    "div": lambda a, b: a / b,
    "div_number": lambda a, b: a / 3,
    "div_overload": lambda a, b: aten.div.Scalar(a, 0.37),
    "neg": lambda a, b: -a,
    "reciprocal": lambda a, b: 1 / a,
    "sqrt": lambda a, b: a.sqrt(),
    "abs": lambda a, b: a.abs(),
    "sign": lambda a, b: torch.sign(a),
    "sgn": lambda a, b: torch.sgn(a),
    "round": lambda a, b: torch.round(a),
    "floor": lambda a, b: torch.floor(a),
    "ceil": lambda a, b: torch.ceil(a),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "relu": lambda a, b: torch.relu(a),
    "clamp": lambda a, b: a.clamp(-0.37, 1.2),
    "clamp_min": lambda a, b: a.clamp_min(-0.37),
    "clamp_max": lambda a, b: a.clamp_max(0.37),
    "clamp_low": lambda a, b: a.clamp(min=-0.37),
    "clamp_high": lambda a, b: a.clamp(max=0.37),
    "clamp_tensors": lambda a, b: a.clamp(b, b + 0.37),
    "clamp_low_tensor": lambda a, b: a.clamp(min=b),
    "clamp_high_tensor": lambda a, b: a.clamp(max=b),
    "clamp_min_tensor": torch.clamp_min,
    "clamp_max_tensor": torch.clamp_max,
    "where": lambda a, b: torch.where(a > b, a, b),
    "masked_fill": lambda a, b: a.masked_fill(a > b, 0.37),
    "zeros_like": lambda a, b: torch.zeros_like(a) + b,
    "ones_like": lambda a, b: torch.ones_like(a) + b,
    "full_like": lambda a, b: torch.full_like(a, 0.37) + b,
    "scalar_tensor": lambda a, b: torch.where(a > b, a, torch.scalar_tensor(0.37, dtype=a.dtype)),
    "sigmoid_backward": aten.sigmoid_backward.default,
    "tanh_backward": aten.tanh_backward.default,
    "threshold_backward": lambda a, b: aten.threshold_backward.default(a, b, 0.37),
    "exp": lambda a, b: torch.exp(a),
    "sigmoid": lambda a, b: torch.sigmoid(a),
    "tanh": lambda a, b: torch.tanh(a),
    "log": lambda a, b: torch.log(a),
    "log1p": lambda a, b: torch.log1p(a),
    "sin": lambda a, b: torch.sin(a),
    "cos": lambda a, b: torch.cos(a),
    "erf": lambda a, b: torch.erf(a),
    "erfc": lambda a, b: torch.erfc(a),
    "atan": lambda a, b: torch.atan(a),
    "square": lambda a, b: a**2,
    "cube": lambda a, b: a**3,
    "root": lambda a, b: a**0.5,
    "inverse": lambda a, b: a**-1,
    "fourth": lambda a, b: a**4,
    "inverse_cube": lambda a, b: a**-3,
    "real_power": lambda a, b: a**1.37,
    "power": lambda a, b: a.abs() ** b,
    "and_number": lambda a, b: torch.logical_and(a > 0, b > 0).to(a),
    "or_number": lambda a, b: torch.logical_or(a > 0, b > 0).to(a),
    "and_bits": lambda a, b: ((a > 0) & (b > 0)).to(a),
    "or_bits": lambda a, b: ((a > 0) | (b > 0)).to(a),
    "not_number": lambda a, b: torch.logical_not(a > b).to(a),
    "not_bits": lambda a, b: (~(a > b)).to(a),
    **{name: lambda a, b, name=name: getattr(torch, name)(a, b).to(a) for name in ("ge", "gt", "le", "lt", "eq", "ne")},
    "eq_number": lambda a, b: (a == 0).to(a),
    "ne_number": lambda a, b: (a != 0).to(a),
    "ge_number": lambda a, b: (a >= 0).to(a),
    "le_number": lambda a, b: (a <= 0).to(a),
    "gt_number": lambda a, b: (a > 0.37).to(a),
    "lt_number": lambda a, b: (a < 0.37).to(a),
}
INEXACT = {"sqrt", "root", "exp", "sigmoid", "tanh", "log", "log1p", "sin", "cos", "erf", "erfc", "atan"}
INEXACT |= {"tanh_backward", "fourth", "inverse_cube", "real_power", "power"}
BORROWED = {"exp", "sigmoid", "tanh", "log", "log1p", "sin", "cos", "erf", "erfc", "atan", "sqrt", "root"}
BORROWED -= set() if missing(aten.exp.default, torch.float32) is None else BORROWED  # on a CPU: PyTorch's own functions
AWKWARD = [0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.37, 1.2, 1e-30, -1e-30, 7.0, -7.0, 1.0, -1.0, 30.0, -30.0]


@pytest.fixture(scope="module")
def node_class():
    with apart():

        class EveryOperationNode(PointwiseNeuron):
            State = namedtuple(
                "State", ["v", *(f"o_{name}" for name in OPERATIONS)], defaults=[0.0] * (len(OPERATIONS) + 1)
            )

            @staticmethod
            def step(p, s, x):
                found = [function(x, s.v) for function in OPERATIONS.values()]
                return Step(x, type(s)(s.v, *found), x)

        yield EveryOperationNode


def results(cls, backend, x, v):
    node = cls(step_mode="m", backend=backend)
    node.v = v
    with torch.no_grad():
        node(x.unsqueeze(0))
    return {name: getattr(node, f"o_{name}") for name in OPERATIONS}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy, of roots and logarithms below zero
@pytest.mark.parametrize("backend", ["cpp", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_operation(node_class, backend, dtype):
    if backend == "triton" and not (launch.available() and launch.interpreted()):
        pytest.skip("it needs Triton's interpreter")
    x = torch.cat([inputs(300, dtype=dtype), torch.tensor(AWKWARD, dtype=dtype)])
    v = torch.cat([inputs(300, dtype=dtype, seed=9), torch.tensor([AWKWARD[0], *AWKWARD[:-1]], dtype=dtype)])
    got, want = results(node_class, backend, x, v), results(node_class, "torch", x, v)
    for name, held in want.items():
        if name in (INEXACT - BORROWED if backend == "cpp" else INEXACT):
            close = 32 * torch.finfo(dtype).eps  # a few units, times the growth of an error by a power
            low = (
                close if name in ("tanh_backward", "log", "log1p", "sin", "cos", "erfc", "erf") else 1e-36
            )  # their zeros, and tails
            torch.testing.assert_close(
                got[name], held, rtol=close, atol=low, equal_nan=True, msg=lambda t, n=name: f"{n}: {t}"
            )
        else:
            assert_equal(got[name], held, name)


def test_every_operation_keeps_what_is_not_a_number(node_class):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf] * 2)
    v = torch.tensor([0.3, 0.3, 0.3, torch.nan, torch.nan, torch.nan])
    got, want = results(node_class, "cpp", x, v), results(node_class, "torch", x, v)
    for name, held in want.items():
        torch.testing.assert_close(got[name], held, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}")


def test_every_row_is_tried(node_class):
    node = node_class()
    body = program(node._definition(node.params()).key).forward(torch.float32)
    tried = {node.target for node in body.nodes}
    assert set(OPS) <= tried
    assert not set(OPS) & PASS
