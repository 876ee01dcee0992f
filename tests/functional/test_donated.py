"""Whose memory a gradient may take the place of: what was computed again for one reader, and not for more."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikescope import functional, layer, neuron
from spikescope.dynamics import donated
from spikescope.functional.memory import stand_ins

X = torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch):
    monkeypatch.setattr(stand_ins, "LEAST", 1)


def block(step_mode="m"):
    torch.manual_seed(0)
    parts = [layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8), neuron.LIFNode()]
    net = nn.Sequential(*parts, layer.Conv2d(8, 8, 3), layer.BatchNorm2d(8), neuron.ParametricLIFNode())
    functional.set_step_mode(net, step_mode)
    return net


def step(net, x=X):
    functional.reset_net(net)
    x = x.clone().requires_grad_()
    y = net(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [x.grad, *(p.grad.clone() for p in net.parameters())]


def alike(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_a_gradient_takes_the_place_of_the_second_normalisation(step_mode, monkeypatch):
    taken, x = [], X if step_mode == "m" else X[0]
    take_donated = donated.take_donated

    def noted(*args):
        place = take_donated(*args)
        taken.append(place is not None)
        return place

    monkeypatch.setattr("spikescope.dynamics.derivative.take_donated", noted)
    assert alike(step(block(step_mode), x), step(functional.lean(block(step_mode)), x))
    assert taken == [False, False, True, True]  # what a plain network has kept is not ours to write over


class Segment(nn.Module):
    """A neuron beside others that read its input, and later than it in the backward pass."""

    def __init__(self):
        super().__init__()
        self.norm, self.node = block()[:2], neuron.LIFNode(step_mode="m")

    def inside(self, x):
        functional.reset_net(self.node)  # it begins anew each time, as a checkpoint of PyTorch needs it
        return x.square() + self.node(x)


class Checkpointed(Segment):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(self.inside, self.norm(x), use_reentrant=self.reentrant)


class Own(torch.autograd.Function):
    """A function of a user's, which runs a neuron in its backward pass and then reads the input once more."""

    @staticmethod
    def forward(ctx, x, segment):
        ctx.segment = segment
        ctx.save_for_backward(x)
        with torch.no_grad():
            return segment.inside(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            functional.reset_net(ctx.segment.node)
            again = x.detach().requires_grad_()
            (of_node,) = torch.autograd.grad(ctx.segment.node(again), again, gradient)
        return of_node + 2 * x * gradient, None


class ByHand(Segment):
    def forward(self, x):
        return Own.apply(self.norm(x), self)


@pytest.mark.parametrize(
    "made",
    [lambda: Checkpointed(True), lambda: Checkpointed(False), ByHand],
    ids=["reentrant", "hooks", "function"],
)
def test_what_is_run_again_in_the_backward_pass_keeps_its_input(made):
    """Its copy of what was computed again goes to a neuron in there as well, which is not alone with it."""
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        net = made()
        found.append(step(functional.lean(net) if lean else net))
    assert alike(*found)


def test_what_somebody_else_may_read_is_no_place_for_a_result():
    x = torch.rand(8, 4)
    assert donated.take_donated(x) is None
    assert donated.take_donated(donated.donate(x)[:4]) is None  # a part of it
    assert donated.take_donated(donated.donate(x).expand(2, 8, 4)) is None
    donated.donate(torch.rand(8, 4))
    assert donated.take_donated(x) is None
    assert donated.take_donated(donated.donate(x)).data_ptr() == x.data_ptr()
    assert donated.take_donated(x) is None  # once
    other = donated.donate(x).detach()
    assert donated.take_donated(x) is None
    assert donated.take_donated(donated.donate(x), 2).data_ptr() == other.data_ptr()
