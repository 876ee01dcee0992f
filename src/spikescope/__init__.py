"""Spikescope: train spiking neural networks in PyTorch, fast, and see inside them while they run."""

from __future__ import annotations

from importlib import import_module
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
        rnn,
        spikes,
        surrogate,
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


_ELSEWHERE = {"live": ".view.live", "open_recording": ".recording"}
"""What stands at the front door besides the rooms, and where it is."""


def __getattr__(name: str) -> Any:
    """The rooms, each imported when it is first used: the command line answers before torch is loaded."""
    if name in __all__:
        return import_module(f".{name}", __name__)
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its rooms are {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_ELSEWHERE])
