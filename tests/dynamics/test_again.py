"""Launches that go by the places of tensors alone: what changes from call to call is seen, and nothing is mixed up."""

import copy

import pytest
import torch
from dynamics_cases import inputs, make, unround

from spikescope import functional
from spikescope.dynamics.triton import launch
from spikescope.neuron import IzhikevichNode, LIFNode, ParametricLIFNode

pytestmark = pytest.mark.skipif(
    not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter"
)


def call(node, x, g):
    """Output and gradients; the input is the very tensor, not a copy of it."""
    functional.reset_net(node)
    y = node(x)
    return [y, *torch.autograd.grad(y, [x, *node.parameters()], g)]


@pytest.mark.parametrize("shape", [None, (5,)], ids=["numbers", "per neuron"])
@pytest.mark.parametrize("cls", [ParametricLIFNode, IzhikevichNode], ids=lambda cls: cls.__name__)
def test_fields_that_learn_are_read_at_every_call(cls, shape):
    node = make(cls, "triton")
    if shape or cls is not ParametricLIFNode:
        unround(node, shape)
    for turn in range(4):
        x, g = inputs(3, 2, 5, seed=turn).requires_grad_(), inputs(3, 2, 5, seed=9 + turn)
        fresh = copy.deepcopy(node)  # its first call is the long way
        for got, want in zip(call(node, x, g), call(fresh, x, g), strict=True):
            assert torch.equal(got, want)
        with torch.no_grad():
            for held in node.parameters():
                held.add_(0.03 * (turn + 1))


def test_a_tensor_that_was_two_arguments_is_not_two_arguments_from_then_on():
    """Of a launch on one tensor in two places nothing tells which of both the next one's tensors belong to."""
    node = LIFNode(step_mode="m", backend="triton")
    x, g = inputs(3, 2, 5).requires_grad_(), inputs(3, 2, 5, seed=4)
    for _ in range(3):
        call(node, x, x)
    for got, want in zip(call(node, x, g), call(LIFNode(step_mode="m", backend="torch"), x, g), strict=True):
        torch.testing.assert_close(got, want)
