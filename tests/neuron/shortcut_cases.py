"""What the tests of the short way have in common: twins, of which one has become short, and what they give."""

import torch
from neuron_cases import make, sequence

from spikescope import neuron


def twins(cls=neuron.LIFNode, mode="s", backend="auto", **fields):
    """The same neuron twice: as it comes, after calls that make those to come short, and in the eager loop."""
    one, other = make(cls, step_mode=mode, backend=backend, **fields), make(cls, step_mode=mode, **fields)
    for learn in (True, False, True, False):
        one.reset()
        for _ in range(3):
            one(input_of(cls, mode).requires_grad_(learn))
    one.reset()
    return one, other


def input_of(cls, mode):
    return sequence(cls)[: 3 if mode == "m" else None] if mode == "m" else sequence(cls)[0]


def runs(node, mode="s", cls=neuron.LIFNode, learn=True, given=None):
    """Outputs, last state and gradients of three calls on end, on inputs made here or given."""
    x = given
    if x is None:
        x = sequence(cls) if mode == "s" else torch.stack([sequence(cls)[:3]] * 3)
    x = x[:3].clone().requires_grad_(learn)
    outputs = [node(each) for each in x]
    state = [held for held in node.memories() if isinstance(held, torch.Tensor)]
    if not learn:
        return [*outputs, *state]
    loss = sum((i + 1) * y.sum() for i, y in enumerate(outputs)) + sum((s * s).sum() for s in state if s.requires_grad)
    wanted = [x, *(p for p in node.parameters() if p.requires_grad)]
    return [*outputs, *state, *torch.autograd.grad(loss, wanted, allow_unused=True)]


def assert_equal(got, want, exact):
    assert len(got) == len(want)
    for place, (a, b) in enumerate(zip(got, want, strict=True)):
        if a is None or b is None:
            assert a is b
        elif place < exact:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
