"""The LIF layer alone, in copies of its input: the unit because a neuron layer is bound by memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..harness import Agreement, Options, Row, agreement, measure
from ..rivals import NAMES, Layer, forward_call, gradients, lif, ours, training_call

__all__ = ["agreements", "contest", "rows"]

SIZES = ((16, 262_144), (4, 1_048_576), (64, 65_536))


def agreements(x_seq: Tensor, g: Tensor) -> dict[str, Agreement]:
    """How each library's spikes and gradients compare with those of our layer with the same kind of reset."""
    expected = {detached: gradients(ours(detached), x_seq, g) for detached in (False, True)}
    layers = {name: lif(name) for name in NAMES}
    return {
        name: agreement(expected[layer.detach_reset], gradients(layer, x_seq, g))
        for name, layer in layers.items()
        if layer is not None
    }


def _layers() -> dict[str, Layer]:
    made = {name: lif(name) for name in NAMES}
    return {"ours": ours()} | {name: layer for name, layer in made.items() if layer is not None}


def contest(group: str, case: str, x_seq: Tensor, g: Tensor, options: Options, note: str = "") -> Iterator[Row]:
    """Forward, and forward with backward, of all layers on one input, in copies."""
    found = agreements(x_seq, g)
    y = torch.empty_like(x_seq)
    copy = {"copy": lambda: y.copy_(x_seq)}
    forward = copy | {name: forward_call(layer, x_seq) for name, layer in _layers().items()}
    yield from measure(group, case, "forward", forward, found, options, note)
    training = copy | {name: training_call(layer, x_seq, g) for name, layer in _layers().items()}
    yield from measure(group, case, "forward + backward", training, found, options, note)


def rows(options: Options) -> Iterator[Row]:
    """The three sizes of the design."""
    for T, neurons in SIZES:
        size = options.size(neurons, neurons // 16)
        torch.manual_seed(0)
        x_seq, g = torch.randn(T, size) + 0.5, torch.randn(T, size)
        yield from contest("lif", f"LIF {T} x {size:,}", x_seq, g, options)
