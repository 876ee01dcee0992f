"""What a module is and how its values lie, whoever has made it: a neuron, steps or sequences, where time is."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...base import StepModule
from ...form import at_path, tensors_of
from ...neuron import Neuron
from ...neuron.readout import ReadOut
from ...neuron.spiking import is_binary
from ...sockets import Signal
from ..foreign.known import adapter_of

__all__ = [
    "fires",
    "gives_bits",
    "has_time",
    "held_state",
    "in_sequences",
    "is_foreign",
    "is_neuron",
    "most_spikes",
    "potential_of",
    "state_of",
    "time_first",
]


def is_foreign(module: nn.Module) -> bool:
    """Whether it is a neuron of another library, or one that the user adopted."""
    return not isinstance(module, Neuron) and (held := adapter_of(module)) is not None and held.neurons


def is_neuron(module: nn.Module) -> bool:
    """Whether it is a neuron, ours or another's.

    >>> is_neuron(spikescope.neuron.IFNode()), is_neuron(nn.Linear(1, 1))
    (True, False)
    """
    return isinstance(module, Neuron) or is_foreign(module)


def fires(module: nn.Module) -> bool:
    """Whether it is a neuron that gives spikes, and no read-out."""
    if isinstance(module, Neuron):
        return not isinstance(module, ReadOut)
    adapter = adapter_of(module)
    return adapter is not None and adapter.neurons and adapter.spikes(module) is not None


def gives_bits(module: nn.Module) -> bool:
    """Whether its spikes are 0 and 1."""
    if isinstance(module, Neuron):
        return is_binary(module)
    adapter = adapter_of(module)
    return adapter is not None and fires(module) and adapter.binary(module)


def most_spikes(module: nn.Module) -> int:
    """How many spikes it may give in a step: its surrogate counts them where these are several."""
    if (adapter := adapter_of(module)) is not None and (most := adapter.most(module)) > 1:
        return most
    return int(getattr(getattr(module, "surrogate_function", None), "max_spike_count", 1))


def in_sequences(module: nn.Module) -> bool:
    """Whether a call of it is a sequence, and not one step."""
    if isinstance(module, StepModule):
        return module.step_mode == "m"
    adapter = adapter_of(module)
    return adapter is not None and adapter.in_sequences(module)


def has_time(module: nn.Module, signal: Signal) -> bool:
    """Whether the first axis of a value is time, once `time_first` has put it there.

    Of an attribute it is where its name ends in `_seq`, as `v_seq`, or a foreign neuron keeps its potentials there. The
    output of a read-out has none even in `step_mode='m'`.
    """
    if not in_sequences(module):
        return False
    if signal.kind in ("before", "after"):
        return signal.name.endswith("_seq") or (is_foreign(module) and "." in signal.name)
    return not (isinstance(module, ReadOut) and signal.kind in ("output", "grad_output"))


def time_first(module: nn.Module, signal: Signal, value: Any) -> Any:
    """A value of a call for a sequence with the axis of time first."""
    adapter = adapter_of(module)
    if adapter is None or not isinstance(value, Tensor) or not has_time(module, signal):
        return value
    return adapter.time_first(module, value, signal.kind)


def held_state(module: Any) -> Any:
    """The state that a neuron keeps as attributes."""
    if isinstance(module, Neuron):
        return module._memories
    adapter = adapter_of(module)
    return None if adapter is None else adapter.held(module)


def state_of(module: nn.Module, out: Any) -> list[Tensor]:
    """The state of a neuron after a call that gave `out`, as tensors: what it keeps, and what it gave out besides."""
    passed = out[1:] if is_foreign(module) and isinstance(out, (list, tuple)) else ()
    return tensors_of((held_state(module), passed))


def potential_of(module: Any, out: Any) -> Tensor | None:
    """The potential of a neuron after a call that gave `out`, where that is known."""
    if isinstance(module, Neuron):
        found = module._memories.get("v")
    else:
        adapter = adapter_of(module)
        where = "" if adapter is None else adapter.potential(module)
        found = None if isinstance(where, str) else _read(module, where, out)
    return found if isinstance(found, Tensor) and found.numel() and found.is_floating_point() else None


def _read(module: nn.Module, where: Signal, out: Any) -> Any:
    try:
        return at_path(module if where.kind == "after" else out, where.name)
    except (LookupError, AttributeError):  # whoever records it is told
        return None
