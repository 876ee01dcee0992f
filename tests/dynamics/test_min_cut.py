"""What the backward pass keeps of a step: a smallest set of values that the gradients can be computed from."""

import re
from itertools import combinations

import pytest
import torch
from dynamics_cases import NEURONS, make, parity

from spikescope.dynamics.cpp.borrowed import missing
from spikescope.dynamics.cpp.kernel import backward_source
from spikescope.dynamics.cpp.phases import needed
from spikescope.dynamics.graphs.min_cut import kept
from spikescope.dynamics.graphs.printing import assignments
from spikescope.dynamics.graphs.program import program
from spikescope.neuron import ComplementaryLIFNode, EIFNode, IFNode, LIFNode, NonSpikingLIFNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane
from spikescope.surrogate import Sigmoid


def body_of(node):
    made = program(node._definition(node.params()).key)
    return made.backward(torch.float32, made.differentiable)


def parts(body):
    """The lines, the gradients, the inputs that a segment is run again from, and the gradients of later steps."""
    names = list(body.inputs.values())
    states = len(names) // 2 - 1
    made, outputs = assignments(body, "cpp")
    return made, outputs[: len(outputs) - states], names[: 1 + states], names[1 + states :]


def is_enough(held, made, gradients, sources):
    lines = needed(made, gradients, held)
    read = {name for line in lines for name in line.reads} | set(gradients)
    return not (read - set(held)).intersection(sources)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_it_is_enough_and_no_smaller_set_is(cls):
    made, gradients, sources, others = parts(body_of(make(cls, "cpp")))
    held = kept(made, gradients, sources, others)
    assert len(held) <= len(sources)
    assert is_enough(held, made, gradients, sources)
    late = set(others)
    for line in made:
        late |= {line.name} if late.intersection(line.reads) else set()
    values = [*sources, *(m.name for m in made if m.name not in late and m.node.dtype is not torch.bool)]
    for size in range(len(held)):
        assert not any(is_enough(some, made, gradients, sources) for some in combinations(values, size))


def test_what_well_known_neurons_keep():
    for node in (LIFNode(), IFNode()):
        body = body_of(node)
        made, gradients, sources, others = parts(body)
        assert len(kept(made, gradients, sources, others)) == 1
    made, gradients, sources, others = parts(body_of(NonSpikingLIFNode()))
    assert kept(made, gradients, sources, others) == []  # it is linear


def calls_backwards(cls):
    """Of the functions of PyTorch that the backward kernel calls on a block: how often for the results of each name."""
    text = backward_source(body_of(make(cls, "cpp")), torch.float32, ()).split('extern "C" void backward')[1]
    return re.findall(r"^ *(?:sigmoid\(|by_vector\(|by_array\()[\w{}]+, (\w+)_,", text, re.MULTILINE)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_a_function_of_pytorch_is_called_once_a_step(cls):
    found = calls_backwards(cls)
    assert len(found) == len(set(found))


@pytest.mark.skipif(missing(torch.ops.aten.sigmoid.default, torch.float32) is not None, reason="it cannot be called")
def test_what_costs_a_call_is_kept_and_its_slope_follows_from_it():
    assert (len(calls_backwards(ComplementaryLIFNode)), len(calls_backwards(EIFNode))) == (2, 1)
    made, gradients, sources, others = parts(body_of(ComplementaryLIFNode()))
    sigmoids = [line.name for line in made if line.name.startswith("v_sigmoid") and "backward" not in line.name]
    assert len(sigmoids) == 2
    assert set(kept(made, gradients, sources, others, sigmoids)) > set(sigmoids)
    text = backward_source(body_of(ComplementaryLIFNode()), torch.float32, ())
    assert "= decay(" not in text


def test_the_slope_of_a_sigmoid_is_one_function():
    body = body_of(LIFNode(surrogate_function=Sigmoid()))
    text = backward_source(body, torch.float32, ())
    assert slopes(text) == 1
    assert "= logistic(" not in text


def slopes(text):
    """How many slopes a loop computes, which is printed once for whole chunks and once for the rest."""
    return text.count("= slope_of_decay(") / text.count("gxt[i] = ")


def test_a_product_in_the_step_itself_stays_what_it_is():
    class SlopeNode(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            gate = torch.sigmoid(x)
            return Membrane(s.v + 4 * gate * (1 - gate))

    body = body_of(SlopeNode(surrogate_function=Sigmoid()))
    made, *_ = parts(body)
    text = backward_source(body, torch.float32, ())
    assert slopes(text) < sum("sigmoid" in line.name for line in made) + 1
    torch.manual_seed(0)
    parity(SlopeNode, torch.randn(6, 300), fields=lambda: {"v_threshold": 1.7})
