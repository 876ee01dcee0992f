"""What there is to see of a module, by the names that users give it."""

from __future__ import annotations

import torch
from torch import nn

from ...base import MemoryModule
from ...errors import check_choice
from ...neuron import Neuron, OTTTLIFNode, PointwiseNeuron
from ...sockets import Signal

__all__ = ["GRADIENTS", "keeps_state", "reset_of", "signal_of", "spikes_of", "threshold_of"]

SIGNALS = ("output", "input", "grad_output", "grad_input", "spike", "current", "h", "v")
_ALIASES = {"spike": "output", "current": "input"}
GRADIENTS = ("grad_input", "grad_output")


def signal_of(name: str, module: nn.Module) -> Signal:
    """The signal with this name. `spike`, `current`, `h` (before the reset) and `v` (after it) are those of a neuron.

    >>> signal_of("spike", spikescope.neuron.IFNode()), signal_of("h", spikescope.neuron.IFNode())
    (Signal(kind='output', name='', taps=()), Signal(kind='tap', name='h', taps=()))
    """
    check_choice("A probe", "signal", name, SIGNALS)
    owner = type(module).__name__
    if name in ("h", "v"):
        if not isinstance(module, PointwiseNeuron):
            raise TypeError(
                f"The signal {name!r} is told by neuron.PointwiseNeuron and its subclasses, but {owner} is none. "
                "Record its 'output', or an attribute."
            )
        return Signal("tap", name)
    if name in _ALIASES and not isinstance(module, Neuron):
        raise TypeError(f"The signal {name!r} is one of neurons, but {owner} is none; take {_ALIASES[name]!r}.")
    if name in ("spike", "grad_output"):
        return spikes_of(module)._replace(kind=_ALIASES.get(name, name))
    return Signal(_ALIASES.get(name, name))


def spikes_of(module: nn.Module) -> Signal:
    """The output of a module, without what it gives besides its spikes: in training an `OTTTLIFNode` gives its trace.

    >>> spikes_of(spikescope.neuron.OTTTLIFNode())
    Signal(kind='output', name='spike', taps=())
    """
    return Signal("output", "spike" if isinstance(module, OTTTLIFNode) else "")


def keeps_state(module: nn.Module) -> bool:
    """Whether a module has a state that lasts from a reset to the next."""
    return isinstance(module, Neuron) or (isinstance(module, MemoryModule) and bool(module._memories))


def threshold_of(module: nn.Module) -> float | None:
    """The threshold that all neurons of a layer share, where there is one.

    >>> threshold_of(spikescope.neuron.IFNode(v_threshold=0.5)), threshold_of(nn.Linear(1, 1))
    (0.5, None)
    """
    return _shared(module, "v_threshold")


def reset_of(module: nn.Module) -> float | None:
    """The potential to which all neurons of a layer are set after a spike; None where there is no such number.

    >>> reset_of(spikescope.neuron.IFNode()), reset_of(spikescope.neuron.IFNode(v_reset=None))
    (0.0, None)
    """
    return _shared(module, "v_reset")


def _shared(module: nn.Module, field: str) -> float | None:
    if not isinstance(module, PointwiseNeuron) or field not in type(module).fields:
        return None
    given = getattr(module, field)
    held = None if given is None else torch.as_tensor(given, device="cpu")
    return None if held is None or held.numel() != 1 else float(held.item())
