"""Constants for whose value a kernel is made: what it leaves out for them changes no bit."""

import math

import pytest
import torch

from spikescope.dynamics import layout
from spikescope.dynamics.cpp import kernel as cpp
from spikescope.dynamics.cpp import native
from spikescope.dynamics.graphs import program
from spikescope.neuron import LIFNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane

SPECIAL = [0.0, -0.0, 1.5e-38, 1.4e-38, -1.5e-38, 1e-45, -1e-45, 3e38, -3e38, math.inf, -math.inf, math.nan]


def text_of(**fields):
    """The text of the forward kernel of a LIF neuron."""
    node = LIFNode(**fields)
    definition = node._definition(node.params())
    body = program.program(definition.key).forward(torch.float32)
    values = program.Values("nnnn", [], tuple(definition.numbers))
    step = layout.layout(torch.zeros(1, 8))[1]
    return cpp.forward_source(body, torch.float32, settled=native._constants(body, values, step, torch.float32).settled)


def bits(fields, x_seq, backend):
    """Spikes and potentials, to the sign of a zero; a NaN is as good as another."""
    node = LIFNode(**fields, step_mode="m", store_v_seq=True, backend=backend)
    told = torch.stack([node(x_seq), node.v_seq])
    return torch.where(told.isnan(), math.nan, told).view(torch.int32)


def near(*numbers):
    """Inputs that bring a potential to these numbers and next to them, one after the other, and special ones."""
    reached = [torch.tensor(number) for number in numbers]
    around = [torch.nextafter(held, torch.tensor(way)) for held in reached for way in (-math.inf, math.inf)]
    first = torch.stack([*reached, *around, *map(torch.tensor, SPECIAL)])
    return torch.stack([first.roll(turn) for turn in range(6)]) * 2


@pytest.mark.parametrize("v_reset", [0.0, -0.0, 0.3, 1e-40])
@pytest.mark.parametrize("v_threshold", [1.0, -1.0, 0.0, 0.7, 1.5e-38, 1e-45, 3e38, math.inf])
def test_a_kernel_made_for_a_threshold_and_a_reset_has_the_bits_of_the_eager_loop(v_threshold, v_reset):
    if v_threshold <= v_reset:
        v_reset = v_threshold - 1.0
    fields, x_seq = {"v_threshold": v_threshold, "v_reset": v_reset}, near(v_threshold, v_reset)
    assert torch.equal(bits(fields, x_seq, "cpp"), bits(fields, x_seq, "torch"))


def test_so_it_has_where_numbers_below_the_smallest_normal_one_are_zero():
    fields, x_seq = {"v_threshold": 1.5e-38, "v_reset": 0.0}, near(1.5e-38, 1.4e-38)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor knows no such mode")
    try:
        expected = bits(fields, x_seq, "torch")
        assert torch.equal(bits(fields, x_seq, "cpp"), expected)
    finally:
        torch.set_flush_denormal(False)
    assert not torch.equal(bits(fields, x_seq, "torch"), expected)  # the mode makes a difference here


def test_a_potential_is_compared_with_a_threshold_far_from_the_ends_itself():
    assert " >= f1)" in text_of(v_threshold=1.0)
    assert text_of(v_threshold=1.0) == text_of(v_threshold=0.7)
    for v_threshold in (0.0, 1.5e-38, 3e38, math.inf):
        assert " >= real(0.0))" in text_of(v_threshold=v_threshold, v_reset=-1.0)


def test_a_reset_to_zero_is_left_out():
    assert "const real f2 = 0;" in text_of(v_reset=0.0)
    assert text_of(v_reset=-0.0) == text_of(v_reset=0.3) != text_of(v_reset=0.0)


class FilledNode(IntegrateAndFire):
    """A neuron that compares a difference from its threshold after something else was put in its place."""

    @staticmethod
    def charge(p, s, x):
        return Membrane(s.v + x + ((x - p.v_threshold).masked_fill(x < 0, 1.0) >= 0).to(x))


def test_a_difference_that_was_replaced_is_compared_itself():
    x_seq, told = torch.tensor([[-1.0, -0.5, 0.5, 1.0]]), {}
    for backend in ("torch", "cpp"):
        node = FilledNode(step_mode="m", store_v_seq=True, backend=backend)
        told[backend] = node(x_seq).tolist(), node.v_seq.tolist()
    assert told["cpp"] == told["torch"] == ([[0, 0, 0, 1]], [[0, 0.5, 0.5, 0]])
