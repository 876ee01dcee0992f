"""What a pool takes of a normalisation, which a lean network computes again from the places of what was taken."""

from __future__ import annotations

import pytest
import torch
from lean_cases import saved, small_tensors_too, step
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.dynamics.pool import cpu
from spikescope.functional.memory import stand_ins
from spikescope.toolchain.compiler import trouble

__all__ = ["saved", "small_tensors_too"]

pytestmark = pytest.mark.skipif(bool(trouble()), reason="places are kept by the kernel of a pool")

X = torch.rand(4, 3, 2, 32, 32, generator=torch.Generator().manual_seed(1))


class Halved(layer.MaxPool2d):
    def forward(self, x):
        return super().forward(x) / 2


class Run(nn.Module):
    """A network that is run in another way."""

    def __init__(self, net, run):
        super().__init__()
        self.net, self.run = net, run

    def forward(self, x):
        return self.run(self.net, x)


def net_with(pool, inputs=2, **options):
    torch.manual_seed(0)
    conv, norm = layer.Conv2d(inputs, 16, 3, padding=1), layer.BatchNorm2d(16, **options)
    net = nn.Sequential(conv, norm, pool, neuron.LIFNode(tau=1.2), layer.Conv2d(16, 4, 1))
    functional.set_step_mode(net, "m")
    if norm.affine:
        nn.init.normal_(norm.weight)  # of a negative gain the largest is the least of what came in
        nn.init.normal_(norm.bias)
    return net


@pytest.fixture
def gathered(monkeypatch):
    """How often values were computed again at the places of a pool, and how many they were."""
    found, gather = [], cpu.Largest.gather
    monkeypatch.setattr(cpu.Largest, "gather", lambda self, x: found.append(self.place.numel()) or gather(self, x))
    return found


POOLS = {"side by side": (2,), "overlapping": (3, 2, 1), "of one way": ((1, 2), (1, 2)), "with a rest": (3, 3)}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str)
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_what_a_pool_gives_is_computed_again(pool, options, training, saved, gathered):
    plain, lean = (net_with(layer.MaxPool2d(*pool), **options).train(training) for _ in range(2))
    functional.lean(lean)
    for _ in range(3):
        before, one = len(gathered), step(plain, X)
        assert len(gathered) == before
        assert all(map(torch.equal, one, step(lean, X)))
    assert saved.count("Normed") == 3  # by the neuron, each time
    assert len(gathered) > 3


def test_in_single_steps(gathered):
    plain, lean = net_with(layer.MaxPool2d(2)), functional.lean(net_with(layer.MaxPool2d(2)))
    for net in (plain, lean):
        functional.set_step_mode(net, "s")
    assert all(map(torch.equal, step(plain, X, single=True), step(lean, X, single=True)))
    assert len(gathered) > len(X)


def test_from_a_convolution_of_images_that_is_computed_again(gathered, monkeypatch):
    """Neither the output of the convolution is kept, nor that of the pool."""
    made = []
    memory = stand_ins.Normed.memory
    monkeypatch.setattr(stand_ins.Normed, "memory", lambda self: made.append(self._of) or memory(self))
    plain, lean = net_with(layer.MaxPool2d(2)), functional.lean(net_with(layer.MaxPool2d(2)))
    assert all(map(torch.equal, step(plain, X), step(lean, X)))
    assert made[-1] is not None
    assert gathered


@pytest.mark.parametrize("pool", [Halved(2), nn.MaxPool3d((1, 2, 2))], ids=["of the user's", "PyTorch's"])
def test_other_pools_are_left_alone(pool, gathered):
    torch.manual_seed(0)
    plain, lean = net_with(pool), functional.lean(net_with(pool))
    assert all(map(torch.equal, step(plain, X), step(lean, X)))
    assert not gathered


def test_what_comes_out_otherwise_is_kept(gathered, monkeypatch):
    """The second computation is tried once, and not relied on where its bits are others."""
    gather = cpu.Largest.gather
    monkeypatch.setattr(cpu.Largest, "gather", lambda self, x: gather(self, x) * (1 + 1e-6))
    plain, lean = net_with(layer.MaxPool2d(2)), functional.lean(net_with(layer.MaxPool2d(2)))
    for _ in range(2):
        assert all(map(torch.equal, step(plain, X), step(lean, X)))
    assert len(gathered) <= 2  # in the trial


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_the_values_at_the_places_are_those_of_the_pool(pool, dtype):
    x = torch.randn(3, 8, 33, 34, dtype=dtype, requires_grad=True)
    y = layer.MaxPool2d(*pool)(x)
    largest = cpu.largest_of(y.grad_fn)
    assert torch.equal(largest.gather(x.detach()), y.detach())
    assert torch.equal(largest.gather(-x.detach()), -y.detach())
    assert cpu.largest_of(x.grad_fn) is None


def test_within_a_checkpoint_nothing_is_asked_of_the_pool(gathered):
    """It keeps what it is given as nothing, and would run again if somebody asked for it."""

    def run(net, x):
        normed = net[1](net[0](x))
        return functional.checkpoint(net[2:], normed)

    found = []
    for lean in (False, True):
        net = functional.lean(net_with(layer.MaxPool2d(2)), lean)
        outer = Run(net, run)
        functional.lean(outer, lean)
        found.append(step(outer, X))
    assert all(map(torch.equal, *found))
    assert not gathered
