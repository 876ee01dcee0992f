"""What the kernel of a neuron tells a recording while it runs, so that the signal need not be read again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...neuron import PointwiseNeuron
from ...neuron.readout import ReadOut
from ...neuron.spiking import gives_spikes
from ...sockets import Signal
from ..choose.subset import Subset
from ..reduce import Reducer

__all__ = ["as_in_the_library", "tapped"]


def as_in_the_library(module: nn.Module) -> bool:
    """Whether a module gives what its kernel computes: whoever writes one of these methods anew may give another."""
    methods = ("forward", "multi_step_forward", "single_step_forward", "step", "fed_step")
    own = getattr(module, "custom", False) or getattr(module, "by_hooks", False)  # run step by step, in methods
    return not own and all(getattr(module, name).__module__.startswith("spikescope.") for name in methods)


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
