"""Spikescope: train spiking neural networks in PyTorch, fast, and see inside them while they run."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        analysis,
        ann2snn,
        base,
        datasets,
        encoding,
        exchange,
        functional,
        layer,
        learning,
        models,
        monitor,
        neighbours,
        neuron,
        profiling,
        quantize,
        recording,
        report,
        rnn,
        spikes,
        surrogate,
        train,
        view,
    )
    from .recording import open_recording as open_recording
    from .view.live import live as live

__version__ = "0.2.0"

__all__ = [
    "analysis",
    "ann2snn",
    "base",
    "datasets",
    "encoding",
    "exchange",
    "functional",
    "layer",
    "learning",
    "models",
    "monitor",
    "neighbours",
    "neuron",
    "profiling",
    "quantize",
    "recording",
    "rnn",
    "spikes",
    "surrogate",
    "view",
]


_FURTHER = ("report", "train")
"""Rooms that need extras for most of what they do."""

_ELSEWHERE = {"live": ".view.live", "open_recording": ".recording"}
"""What stands at the front door besides the rooms, and where it is."""


def __getattr__(name: str) -> Any:
    """The rooms, each imported when it is first used: the command line answers before torch is loaded."""
    if name in __all__ or name in _FURTHER:
        return import_module(f".{name}", __name__)
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name], __name__), name)
    known = "" if name.startswith("_") else _where(name)  # those with _ are asked for by tools, not by people
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {known}its rooms are {', '.join(__all__)}.")


def _where(name: str) -> str:
    """The rooms that have a name, in words."""
    held = {room: getattr(import_module(f".{room}", __name__), name, None) for room in __all__}
    rooms = [room for room, found in held.items() if found is not None and not isinstance(found, ModuleType)]
    return f"it is {' and '.join(f'{__name__}.{room}.{name}' for room in rooms)}; " if rooms else ""


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_FURTHER, *_ELSEWHERE])
