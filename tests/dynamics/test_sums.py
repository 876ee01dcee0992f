"""Gradients of numbers that all neurons share: what is the same for all terms is left out of the sum."""

import re

import pytest
import torch
from dynamics_cases import NEURONS, SURROGATES, make, unround

from spikescope.dynamics.cpp.kernel import backward_source, backward_step_source
from spikescope.dynamics.cpp.sums import summed
from spikescope.dynamics.graphs.printing import assignments
from spikescope.dynamics.graphs.program import program
from spikescope.fields import Value, value
from spikescope.neuron import GatedLIFNode, IFNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane


class MixedNode(IntegrateAndFire):
    """A neuron whose numbers reach the potential in many ways."""

    a: Value = value(1.3)
    b: Value = value(0.7)
    c: Value = value(-0.4)
    d: Value = value(2.1)
    e: Value = value(0.9)
    f: Value = value(0.0)

    @staticmethod
    def charge(p, s, x):
        left = -(s.v * (p.a / p.b) - torch.tanh(p.c) * p.d * x) / (p.b + p.d)
        return Membrane(left + (x - s.v * p.c) * p.a + torch.sigmoid(p.e) * 0.3 * (s.v - p.d) + 0.0 * torch.relu(p.f))


def body_of(node, wanted=None):
    unround(node, ())
    made = program(node._definition(node.params()).key)
    return made.backward(torch.float32, made.differentiable if wanted is None else wanted)


def taken_apart(node):
    """The lines, the gradients of the numbers and their sums."""
    body = body_of(node)
    made, outputs = assignments(body, "cpp")
    states = len(body.inputs) // 2 - 1
    gradients = outputs[1 + states : len(outputs) - states]
    return body, made, gradients, summed(made, body, gradients)


@pytest.mark.parametrize("cls", [*NEURONS, MixedNode], ids=lambda cls: cls.__name__)
def test_nothing_that_is_summed_is_a_multiple_of_something_else(cls):
    body, made, gradients, sums = taken_apart(make(cls, "cpp"))
    varying = {*(line.name for line in made), *body.inputs.values()}
    lines = {line.name: line for line in made}
    assert len(sums.gradients) == len(gradients)
    assert len(set(sums.values)) == len(sums.values) <= len(gradients)
    assert varying.issuperset(sums.values)
    for line in (lines[name] for name in sums.values if name in lines):
        text = re.sub(r"[\s()]", "", line.expression)
        others = [held for held in line.operands if held not in varying]
        assert not text.startswith("-")
        assert not (others and re.fullmatch(r"[\w.]+[*/][\w.]+", text) and "real" not in text), text


@pytest.mark.parametrize("steps", [1, 5, 90])
@pytest.mark.parametrize(
    ("cls", "surrogate"),
    [*((cls, None) for cls in (*NEURONS, MixedNode)), *((IFNode, cls) for cls in SURROGATES)],
    ids=lambda cls: "" if cls is None else cls.__name__,
)
def test_the_sums_are_the_gradients_in_double_precision(cls, surrogate, steps):
    """Of whole blocks and a part of one, to a few roundings; in single precision others hide a wrong one."""
    found = {}
    steps = min(steps, cls.example.get("T", steps))
    x = torch.randn(steps, 2, 261, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    g = torch.randn(steps, 2, 261, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for backend in ("cpp", "torch"):
        node = make(cls, backend, {} if surrogate is None else {"surrogate_function": surrogate(**surrogate.example)})
        unround(node, ())
        torch.manual_seed(3)  # of the noise
        y = node.double()(x)
        weights = g if y.shape == g.shape else g[0]  # a readout gives one step
        given = [x, *(held for held in node.parameters() if held.requires_grad)]
        found[backend] = torch.autograd.grad(y, given, weights, allow_unused=True, materialize_grads=True)
    for one, other in zip(found["cpp"], found["torch"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_a_gated_neuron_with_learned_numbers_has_six_sums_and_half_the_products():
    body, made, gradients, sums = taken_apart(GatedLIFNode(4))
    assert len(gradients) > len(sums.values) == 6
    before = sum(line.expression.count("*") for line in made)
    text = backward_source(body, torch.float32, (True,) * len(gradients))
    loop = text[text.index("reduction(+ : q0, q1, q2, q3, q4, q5)") :].partition("}")[0]
    assert loop.count(" * ") - loop.count("* B + i") < before / 2


def test_parts_are_summed_only_where_that_makes_no_more_sums():
    """Of a gradient that is a sum itself: of its parts one would be as many additions, and a register more."""

    class OneNode(IntegrateAndFire):
        a: Value = value(1.3)

        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v * p.a + torch.sin(x) * p.a * x)

    node = OneNode()
    made = program(node._definition(node.params()).key.rpartition("|")[0] + "|snnn")
    body = made.backward(torch.float32, (0,))
    lines, outputs = assignments(body, "cpp")
    sums = summed(lines, body, outputs[2:3])
    assert sums.values == outputs[2:3]
    assert sums.statements == []


def test_a_single_step_has_the_same_sums():
    body, _, gradients, sums = taken_apart(GatedLIFNode(4))
    text = backward_step_source(body, torch.float32, (True,) * len(gradients))
    assert all(f"q{k} += {name};" in text for k, name in enumerate(sums.values))
    assert f"q{len(sums.values)}" not in text
