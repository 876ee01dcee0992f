"""The threshold of a neuron, which may be moved while it is watched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ....sockets import Signal, subscribe, unsubscribe
from ...probe.single import Probe
from ...track import Track

__all__ = ["Threshold"]


class Threshold:
    """Listens before each call of a neuron for a threshold that is another number: then that is what counts."""

    enabled = True

    def __init__(self, probe: Probe, track: Track) -> None:
        self.probe, self.track = probe, track
        module: Any = probe.module
        self.now = module.v_threshold
        self.point = None if isinstance(self.now, Tensor) else subscribe(module, Signal("before", "v_threshold"), self)

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """The threshold of the call that comes; of compiled code, whose kernel has its orders, of the one after it."""
        if value is self.now:
            return
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if not isinstance(number, (int, float)):  # one for each sample or neuron, which no reducer of one number knows
            form = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            self.probe.fail(TypeError(f"health judges potentials by one v_threshold, but it became {form}."))
            self.close()
        elif number != self.now:
            self.now = number
            for total in self.track.totals.values():
                reducer: Any = total.reducer  # a SupportShare
                total.reducer = replace(reducer, v_threshold=number)
                if self.probe.signal.taps:
                    self.probe.retune(self.probe.signal._replace(taps=total.reducer.taps))

    def close(self) -> None:
        if self.point is not None:
            unsubscribe(self.point, self)
