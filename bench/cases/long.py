"""Ten thousand steps: time a step that does not grow with T, and memory that stays that of one chunk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from spikescope import functional, layer, neuron

from ..harness import Options, Row, agreement, compete, subprocess_json
from .memory import forget_peak, peak, report

__all__ = ["rows"]

NEURONS, CHUNK = 2_048, 100


def rows(options: Options) -> Iterator[Row]:
    """Microseconds a step for two lengths, and peak memory for the same two by chunks."""
    short, long = (100, 1_000) if options.quick else (1_000, 10_000)
    yield from _times(short, long, options)
    for steps, chunk in ((short, CHUNK), (long, CHUNK), (long, long)):
        megabytes = subprocess_json("bench.cases.long", str(steps), str(chunk))
        case = f"16-{NEURONS}-10 network, T={steps:,}, {'at once' if chunk == long else f'by {chunk} steps'}"
        yield Row("long", case, "peak memory, no_grad", "MB", megabytes)


def _times(short: int, long: int, options: Options) -> Iterator[Row]:
    node = neuron.LIFNode(step_mode="m")
    x_long = torch.randn(long, NEURONS) + 0.5
    x_by = {steps: x_long[:steps].clone().requires_grad_() for steps in (short, long)}

    def forward(steps: int) -> torch.Tensor:
        node.reset()
        y: torch.Tensor = node(x_by[steps])
        return y

    def training(steps: int) -> None:
        y = forward(steps)
        y.backward(torch.ones(()).expand_as(y), inputs=[x_by[steps]])

    with torch.no_grad():
        whole = forward(long)
        node.reset()
        chunked = functional.chunk_multi_step_forward(CHUNK, x_long, node)
    words = "by chunks and at once: " + agreement([whole], [chunked]).words
    for what, work in (("forward", forward), ("forward + backward", training)):
        calls: dict[str, Callable[[], Any]] = {f"{n}": partial(work, n) for n in (short, long)}
        calls |= {f"clone {n}": x_by[n].detach().clone for n in (short, long)}
        seconds = compete(calls, options)
        for steps in (short, long):
            ours, clone = (seconds[name] / steps * 1e6 for name in (f"{steps}", f"clone {steps}"))
            case = f"LIF, {NEURONS} neurons, T={steps:,}"
            yield Row("long", case, what, "us a step", ours, "x.clone()", clone, agreement=words, note=_NOTE)


_NOTE = "a long sequence leaves the cache and its output is fresh memory: compare with the copy of the same length"


def _network(steps: int, chunk: int) -> None:
    """A network whose input and output are narrow, so that what is inside it is what takes memory."""
    net = nn.Sequential(layer.Linear(16, NEURONS), neuron.LIFNode(), layer.Linear(NEURONS, 10))
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        functional.chunk_multi_step_forward(chunk, torch.randn(steps, 1, 16), net)


if __name__ == "__main__":
    _network(CHUNK, CHUNK)
    before = forget_peak()
    _network(int(sys.argv[1]), int(sys.argv[2]))
    report(peak() - before)
