"""What lean training takes on trust, and what it looks at or tries first."""

from __future__ import annotations

import copy

import pytest
import torch
from lean_cases import X, conv_net, saved, small_tensors_too, step
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.functional.memory import saved_tensors, stand_ins

__all__ = ["saved", "small_tensors_too"]


class Halved(neuron.LIFNode):
    def forward(self, x):
        return super().forward(x) / 2


class Graded(neuron.LIFNode):
    @classmethod
    def give(cls, p, s, spike):
        return spike / 2


class HalvedPool(layer.MaxPool2d):
    def forward(self, x):
        return super().forward(x) / 2


class Own(neuron.LIFNode):
    def forward(self, x):
        return super().forward(x)


NO_SPIKES = {
    "a forward": (Halved, layer.MaxPool2d(2)),
    "a stage": (Graded, layer.MaxPool2d(2)),
    "a pool": (neuron.LIFNode, HalvedPool(2)),
    "gaps": (neuron.LIFNode, layer.MaxPool2d(2, padding=1, dilation=17)),
}


@pytest.mark.parametrize(("node", "pool"), NO_SPIKES.values(), ids=NO_SPIKES)
def test_what_may_be_no_spikes_is_looked_at_on_every_device(node, pool, monkeypatch):
    """A GPU is not waited for where there can be nothing else; what a class of the user's gives may be anything."""
    monkeypatch.setattr(stand_ins, "_sees_at_once", lambda x: False)
    monkeypatch.setattr(stand_ins, "pack_rows", lambda *args: None)
    found, keep = [], saved_tensors.Ledger._keep
    monkeypatch.setattr(
        saved_tensors.Ledger, "_keep", lambda self, x: found.append((x.clone(), keep(self, x))) or found[-1][1]
    )
    net = conv_net()
    net[2], net[3] = node(step_mode="m"), copy.deepcopy(pool)
    net[4] = layer.Conv2d(16, 4, 1)
    functional.set_step_mode(net, "m")
    functional.lean(net[:5])(X)
    assert all(torch.equal(saved_tensors._give(kept), x) for x, kept in found if kept.what is not None)


def test_nothing_is_asked_of_values_while_a_graph_is_captured(monkeypatch, saved):
    monkeypatch.setattr(stand_ins, "captured", lambda x: True)
    monkeypatch.setattr(stand_ins, "_sees_at_once", lambda x: False)
    monkeypatch.setattr(stand_ins, "pack_rows", lambda *args: None)
    net = conv_net()
    net[2] = Own(step_mode="m")
    functional.lean(net)
    step(net)
    assert "Normed" not in saved  # it was never tried
    assert saved.count("Spikes") == 1  # before the linear layer
    monkeypatch.setattr(stand_ins, "captured", lambda x: False)
    step(net)
    monkeypatch.setattr(stand_ins, "captured", lambda x: True)
    saved.clear()
    step(net)
    assert saved.count("Normed") == 1  # what was tried before may be captured


def test_no_epsilon_is_given_to_what_may_refuse_it(monkeypatch, saved):
    """`F.batch_norm` of some versions of PyTorch takes no epsilon of 0; the normalisation by moments has one."""
    normalise = nn.functional.batch_norm

    def refusing(*args, **options):
        if (options["eps"] if "eps" in options else args[7]) <= 0:
            raise ValueError("batch_norm eps must be positive")
        return normalise(*args, **options)

    monkeypatch.setattr(nn.functional, "batch_norm", refusing)
    step(functional.lean(conv_net()))
    assert saved.count("Normed") == 2


def test_moments_are_tried_with_a_gain_and_shift_that_round(monkeypatch):
    """At the start these are 1 and 0: a computation that rounds elsewhere gives the same bits then, and not later."""
    memory_of = stand_ins.Normed.memory

    def rounded(made):
        y, gain = memory_of(made), made._learned[0]
        return y if made._training or gain is None or bool((gain == 1).all()) else y * (1 + 1e-6)

    monkeypatch.setattr(stand_ins.Normed, "memory", rounded)
    lean, plain = functional.lean(conv_net()), conv_net()
    step(lean)
    for net in (lean, plain):
        with torch.no_grad():
            net[1].weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(step(plain), step(lean), strict=True))


def by_batch(monkeypatch):
    """Whether each second normalisation took the statistics of its batch again."""
    found = []
    memory_of = stand_ins.Normed.memory
    monkeypatch.setattr(stand_ins.Normed, "memory", lambda made: found.append(made._training) or memory_of(made))
    return found


def test_the_second_normalisation_takes_the_moments_that_autograd_keeps(monkeypatch):
    net = functional.lean(conv_net())
    step(net)
    found = by_batch(monkeypatch)
    step(net)
    assert found == [False, False]


@pytest.mark.parametrize(
    "change", [lambda found: None, lambda found: (found[0] + 1e-3, found[1])], ids=["none", "other"]
)
def test_where_moments_give_other_bits_it_takes_those_of_the_batch(change, monkeypatch):
    moments = stand_ins._moments
    monkeypatch.setattr(stand_ins, "_moments", lambda y: change(moments(y)))
    net = functional.lean(conv_net())
    first = step(net)
    found = by_batch(monkeypatch)
    expected = step(conv_net())
    again = step(net)
    assert found == [True, True]
    assert all(torch.equal(a, b) for held in (first, again) for a, b in zip(expected, held, strict=True))
