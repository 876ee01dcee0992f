"""What the kernel of a neuron tells a recording while it runs, so that the signal need not be read again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...hooks import may_change_output
from ...neuron import PointwiseNeuron
from ...neuron.integrate import IntegrateAndFire
from ...neuron.multilevel import ILIFNode, TernaryIntegrateAndFire
from ...neuron.nonlinear import LIAFNode
from ...neuron.online import OnlineLeakyIntegrateAndFire
from ...neuron.readout import ReadOut
from ...sockets import Signal
from ..choose.subset import Subset
from ..reduce import Reducer

__all__ = ["gives_spikes", "is_binary", "tapped"]

_NOT_BINARY = (ILIFNode, TernaryIntegrateAndFire, LIAFNode, OnlineLeakyIntegrateAndFire)


def is_binary(module: nn.Module) -> bool:
    """Whether the output is 0 or 1, fired where the potential before the reset is at one threshold or above."""
    return isinstance(module, IntegrateAndFire) and not isinstance(module, _NOT_BINARY)


def gives_spikes(module: nn.Module) -> bool:
    """Whether the output is now the 0s and 1s that a kernel counts: a surrogate may compute its primitive instead.

    A hook of somebody may make another value of it, which is what counts.
    """
    surrogate = getattr(module, "surrogate_function", None)
    return is_binary(module) and getattr(surrogate, "gives_spikes", False) and not may_change_output(module)


def _as_in_the_library(module: nn.Module) -> bool:
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
    if not isinstance(module, PointwiseNeuron) or not _as_in_the_library(module):
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
