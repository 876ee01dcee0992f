"""What a tap adds to the fused forward: a spike count a neuron, and packed spikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikescope import neuron
from spikescope.dynamics.fused import run_fused

from ..harness import Options, Row, compete

__all__ = ["rows"]


def _forward(x_seq: Tensor, taps: tuple[str, ...]) -> Callable[[], Any]:
    node = neuron.LIFNode(step_mode="m")
    definition = node._definition(node.params())
    assert definition.key is not None
    key, state = definition.key, neuron.LIFNode.State()

    def work() -> Any:
        with torch.no_grad():
            return run_fused("cpp", key, state, definition.tensors, definition.numbers, x_seq, False, taps)

    return work


def _counts(x_seq: Tensor) -> str:
    """Whether the taps tell what the spikes say."""
    run, made = _forward(x_seq, ("count", "packed"))()
    count = torch.equal(made["count"].long(), run.output.sum(0).long())
    bits = made["packed"].unsqueeze(-1).bitwise_right_shift(torch.arange(8)).bitwise_and(1).flatten(1)
    packed = torch.equal(bits[:, : x_seq[0].numel()].long(), run.output.flatten(1).long())
    return "equal" if count and packed else "the taps disagree with the spikes"


def rows(options: Options) -> Iterator[Row]:
    """The forward without taps, and the percentage that each tap adds."""
    for T in (8, 16):
        size = options.size(262_144, 32_768)
        torch.manual_seed(0)
        x_seq = torch.randn(T, size) + 0.5
        words = _counts(x_seq)
        choices: dict[str, tuple[str, ...]] = {"none": (), "count": ("count",), "packed": ("packed",)}
        seconds = compete({name: _forward(x_seq, taps) for name, taps in choices.items()}, options)
        case = f"LIF {T} x {size:,}"
        yield Row("taps", case, "forward, no tap", "ms", seconds["none"] * 1e3)
        for name in ("count", "packed"):
            more = (seconds[name] / seconds["none"] - 1) * 100 if words == "equal" else None
            yield Row("taps", case, f"forward, tap {name!r}", "% more", more, agreement=words)
