"""What each reducer takes to measure a signal, beside the forward pass that made it and one sum over its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from spikescope import neuron
from spikescope.monitor.reduce import Reducer, registry

from ..harness import Options, Row, compete

__all__ = ["rows"]

SHAPES = ((4, 32, 32, 28, 28), (16, 64, 4096))
SMALL = ((4, 2, 32, 28, 28), (16, 8, 512))


def rows(options: Options) -> Iterator[Row]:
    """`measure` of every registered reducer, in forward passes of the LIF layer, with `x.sum()` beside it."""
    for shape in SMALL if options.quick else SHAPES:
        torch.manual_seed(0)
        x_seq = torch.randn(shape) + 0.5
        node = neuron.LIFNode(step_mode="m")
        with torch.no_grad():
            node.store_v_seq = True
            spikes = node(x_seq)
            potentials = node.v_seq.clone()
        for name, kind in sorted(registry.items()):
            reducer = kind(**kind.example)
            for signal, x in (("spikes", spikes), ("potentials", potentials)):
                if signal == "spikes" or _takes(reducer, x):
                    yield _row(name, signal, x, partial(_forward, x_seq), reducer, options)


def _forward(x_seq: Tensor) -> None:
    node = neuron.LIFNode(step_mode="m")
    with torch.no_grad():
        node(x_seq)


def _takes(reducer: Reducer, x: Tensor) -> bool:
    """Whether a reducer takes numbers that are no spikes."""
    try:
        reducer.result(reducer.measure(x[:1, :1]))
    except ValueError:
        return False
    return True


def _row(name: str, signal: str, x: Tensor, forward: Callable[[], None], reducer: Reducer, options: Options) -> Row:
    seconds = compete({"forward": forward, "sum": x.sum, "measure": partial(reducer.measure, x)}, options)
    passes, sums = (seconds["measure"] / seconds[held] for held in ("forward", "sum"))
    note = f"{sums:.1f} sums, {seconds['measure'] * 1e3:.2f} ms"
    return Row("reducers", f"{signal} {list(x.shape)}", name, "forward passes", passes, note=note)
