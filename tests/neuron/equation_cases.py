"""What the tests of the equations share: the scalar pieces of the formulas, and the comparison with a neuron."""

import math

import pytest
import torch

INPUTS = (0.73, 1.91, -0.42, 2.37, 0.58)
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64, whose rounding differs in the order of the operations


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slope(x, alpha=4.0):
    """The gradient of the default surrogate."""
    return alpha * sigmoid(alpha * x) * (1 - sigmoid(alpha * x))


def heaviside(x):
    return 1.0 if x >= 0 else 0.0


def reset(h, spike, threshold, v_reset):
    if v_reset is None:
        return h - spike * threshold
    return v_reset if spike else h


def leak(v, x, tau, decay_input=True, towards=0.0):
    return v + (x - (v - towards)) / tau if decay_input else v - (v - towards) / tau + x


def trace(node, inputs=INPUTS):
    """Outputs and membrane potentials of one neuron in float64, as lists."""
    node.step_mode, node.store_v_seq, node.backend = "m", True, "torch"  # the equations; kernels are compared with them
    with torch.no_grad():
        out = node(torch.tensor(inputs, dtype=torch.float64).unsqueeze(1))
    return out.flatten(), node.v_seq.flatten()


def assert_follows(node, step, state, inputs=INPUTS):
    """`step(x, *state)` gives the output, the potential, and what else the state has."""
    outputs, potentials = [], []
    for x in inputs:
        output, *state = step(x, *state)
        outputs.append(output)
        potentials.append(state[0])
    got_outputs, got_potentials = trace(node, inputs)
    assert len(set(outputs)) > 1, "the inputs should make it fire at some steps and not at others"
    torch.testing.assert_close(got_outputs, torch.tensor(outputs, dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(got_potentials, torch.tensor(potentials, dtype=torch.float64), **CLOSE)
    ends = [held.item() for name, held in node.named_memories() if name != "t"]
    assert ends == pytest.approx(state, rel=0, abs=1e-12)


def one_step(node, x):
    """Output and potential of a single step from rest, with the input as a leaf."""
    node.backend = "torch"
    leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    return node(leaf), node.v, leaf


def grad(y, leaf):
    return torch.autograd.grad(y.sum(), leaf, retain_graph=True)[0].item()


RESETS = pytest.mark.parametrize("v_reset", [None, -0.13])
