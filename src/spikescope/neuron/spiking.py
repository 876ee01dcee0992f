"""Which neurons give 0 and 1 alone, so that their output may be kept as bits and counted in a kernel."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..hooks import may_change_output
from .integrate import IntegrateAndFire
from .multilevel import ILIFNode, TernaryIntegrateAndFire
from .nonlinear import LIAFNode
from .online import OnlineLeakyIntegrateAndFire

__all__ = ["as_in_the_library", "gives_spikes", "is_binary"]

_NOT_BINARY = (ILIFNode, TernaryIntegrateAndFire, LIAFNode, OnlineLeakyIntegrateAndFire)


def is_binary(module: nn.Module) -> bool:
    """Whether the output is 0 or 1, fired where the potential before the reset is at one threshold or above."""
    return isinstance(module, IntegrateAndFire) and not isinstance(module, _NOT_BINARY)


def gives_spikes(module: nn.Module) -> bool:
    """Whether the output is now the 0s and 1s that a kernel counts: a surrogate may compute its primitive instead.

    A hook of somebody may make another value of it, which is what counts.
    """
    surrogate: Any = module._modules.get("surrogate_function")  # a tenth of the time of asking for the attribute
    if surrogate is None:
        surrogate = getattr(module, "surrogate_function", None)
    return is_binary(module) and getattr(surrogate, "gives_spikes", False) and not may_change_output(module)


def as_in_the_library(module: nn.Module) -> bool:
    """Whether a module gives what its kernel computes: whoever writes one of these methods anew may give another."""
    methods = ("forward", "multi_step_forward", "single_step_forward", "step", "fed_step", "emit", "give")
    own = getattr(module, "custom", False) or getattr(module, "by_hooks", False)  # run step by step, in methods
    held = [getattr(module, name) for name in methods if hasattr(module, name)]
    return not own and all(each.__module__.startswith("spikescope.") for each in held)
