"""What the kernel of a neuron tells a recording while it runs, so that the signal need not be read again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...neuron import PointwiseNeuron
from ...neuron.readout import ReadOut
from ...neuron.spiking import as_in_the_library, gives_spikes
from ...sockets import Signal
from ..choose.subset import Subset
from ..reduce import Reducer

__all__ = ["tapped"]


def tapped(
    module: nn.Module, signal: Signal, reducers: Mapping[str, Reducer], subset: Subset | None
) -> dict[str, tuple[str, ...]]:
    """The reducers that the kernel of a neuron feeds, and their taps: for them the signal need not be read."""
    if (subset is not None and not subset.everything) or getattr(module, "step_mode", "s") != "m":
        return {}
    if not isinstance(module, PointwiseNeuron) or not as_in_the_library(module):
        return {}
    if signal == Signal("output"):
        known: tuple[str, ...] = ("count", "packed") if gives_spikes(module) else ()
    else:
        known = ("range", "support") if signal == Signal("tap", "h") and not isinstance(module, ReadOut) else ()
    return {
        label: held.taps
        for label, held in reducers.items()
        if held.taps and all(tap.partition(":")[0] in known for tap in held.taps)
    }
