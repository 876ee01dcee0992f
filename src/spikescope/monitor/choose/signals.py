"""What there is to see of a module, by the names that users give it."""

from __future__ import annotations

import torch
from torch import nn

from ...base import MemoryModule
from ...errors import check_choice
from ...form import at_path
from ...neuron import Neuron, OTTTLIFNode, PointwiseNeuron
from ...sockets import Signal
from ..foreign.adapter import Adapter
from ..foreign.known import adapter_of
from .kinds import is_foreign, is_neuron

__all__ = [
    "GRADIENTS",
    "is_potential",
    "keeps_state",
    "reset_of",
    "signal_of",
    "spikes_of",
    "threshold_name",
    "threshold_of",
]

SIGNALS = ("output", "input", "grad_output", "grad_input", "spike", "current", "h", "v")
_ALIASES = {"spike": "output", "current": "input"}
GRADIENTS = ("grad_input", "grad_output")


def signal_of(name: str, module: nn.Module) -> Signal:
    """The signal with this name. `spike`, `current`, `h` (before the reset) and `v` (after it) are those of a neuron.

    Of neurons of other libraries `v` is what they keep or give out for their potential, and there is no `h`.

    >>> signal_of("spike", spikescope.neuron.IFNode()), signal_of("h", spikescope.neuron.IFNode())
    (Signal(kind='output', name='', taps=()), Signal(kind='tap', name='h', taps=()))
    """
    check_choice("A probe", "signal", name, SIGNALS)
    owner = type(module).__name__
    if (adapter := adapter_of(module)) is not None and adapter.neurons:
        return _of_foreign(name, module, adapter)
    if name in ("h", "v"):
        if not isinstance(module, PointwiseNeuron):
            raise TypeError(
                f"The signal {name!r} comes from neuron.PointwiseNeuron and its subclasses, but {owner} is not one. "
                "Record its 'output', or an attribute; for a neuron of your own, monitor.adopt says where it is."
            )
        return Signal("tap", name)
    if name in _ALIASES and not isinstance(module, Neuron):
        raise TypeError(f"The signal {name!r} is one of neurons, but {owner} is not a neuron; take {_ALIASES[name]!r}.")
    if name in ("spike", "grad_output"):
        return spikes_of(module)._replace(kind=_ALIASES.get(name, name))
    return Signal(_ALIASES.get(name, name))


def _of_foreign(name: str, module: nn.Module, adapter: Adapter) -> Signal:
    """A signal of a neuron of another library."""
    adapter.check(module, ran=False)
    owner = f"{type(module).__name__} of {adapter.library or 'your own'}"
    if name == "h":
        raise TypeError(f"The signal 'h' is told by the kernels of this library, and {owner} has none; take 'v'.")
    if name == "v":
        found = adapter.potential(module)
        if isinstance(found, str):
            raise TypeError(f"The signal 'v' of {owner} is not available: {found}.")
        return found
    path = adapter.spikes(module)
    if path is None and name == "spike":
        raise TypeError(f"{owner} gives no spikes; take 'output' or 'v'.")
    if name in ("input", "current", "grad_input"):
        return Signal(_ALIASES.get(name, name), "0")
    return Signal(_ALIASES.get(name, name), path or "0")


def spikes_of(module: nn.Module) -> Signal:
    """The output of a module, without what it gives besides its spikes: in training an `OTTTLIFNode` gives its trace.

    >>> spikes_of(spikescope.neuron.OTTTLIFNode())
    Signal(kind='output', name='0', taps=())
    """
    if is_foreign(module):
        return signal_of("output", module)
    return Signal("output", "0" if isinstance(module, OTTTLIFNode) else "")


def keeps_state(module: nn.Module) -> bool:
    """Whether a module has a state that lasts from a reset to the next."""
    return is_neuron(module) or (isinstance(module, MemoryModule) and bool(module._memories))


def is_potential(module: nn.Module, signal: Signal) -> bool:
    """Whether a signal is the potential of a neuron."""
    if signal.kind == "tap":
        return True
    adapter = adapter_of(module)
    return is_foreign(module) and adapter is not None and adapter.potential(module) == signal


def threshold_of(module: nn.Module) -> float | None:
    """The threshold that all neurons of a layer share, where there is one.

    >>> threshold_of(spikescope.neuron.IFNode(v_threshold=0.5)), threshold_of(nn.Linear(1, 1))
    (0.5, None)
    """
    return _shared(module, threshold_name(module))


def share_that_never_fires(module: nn.Module, axes: int = 0) -> float:
    """The share of the neurons of a layer that have an infinite threshold.

    - `axes`: how many axes F of the output `[N, *F]` has, to ask for the share of its channels, the first of these,
      none of whose neurons can fire.

    >>> share_that_never_fires(spikescope.neuron.IFNode(v_threshold=torch.tensor([1.0, float("inf")])))
    0.5
    >>> share_that_never_fires(spikescope.neuron.IFNode(v_threshold=torch.tensor([[1.0, float("inf")]])), axes=2)
    0.0
    """
    path = threshold_name(module)
    given = None if path is None else at_path(module, path)
    if given is None:
        return 0.0
    mute = torch.as_tensor(given, device="cpu").isposinf()
    if axes:
        over = mute.ndim - axes
        mute = mute.all() if over < 0 else mute.reshape(-1, *mute.shape[over:]).all(0).flatten(1).all(1)
    return mute.double().mean().item()


def threshold_name(module: nn.Module) -> str | None:
    """The name of the attribute that holds the threshold, or the path to it.

    >>> threshold_name(spikescope.neuron.IFNode())
    'v_threshold'
    """
    if (adapter := adapter_of(module)) is not None:
        if not adapter.neurons:
            return None
        adapter.check(module, ran=False)  # what a user said may be misspelt
        return adapter.threshold(module)
    return _field(module, "v_threshold")


def reset_of(module: nn.Module) -> float | None:
    """The potential to which all neurons of a layer are set after a spike; None where there is no such number.

    >>> reset_of(spikescope.neuron.IFNode()), reset_of(spikescope.neuron.IFNode(v_reset=None))
    (0.0, None)
    """
    return _shared(module, _field(module, "v_reset"))


def _field(module: nn.Module, name: str) -> str | None:
    """The name, where the neuron has such a field and holds what was given; some, as GatedLIFNode, keep a logit."""
    spec = type(module).fields.get(name) if isinstance(module, PointwiseNeuron) else None
    return None if spec is None or not spec.init else name


def _shared(module: nn.Module, path: str | None) -> float | None:
    given = None if path is None else at_path(module, path)
    held = None if given is None else torch.as_tensor(given, device="cpu")
    return None if held is None or held.numel() != 1 else float(held.item())
