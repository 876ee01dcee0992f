"""Which axes the values of a signal have: found once for all that are alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from ...base import StepModule
from ...form import tensors_of
from ...sockets import Signal
from ..choose.kinds import has_time, in_sequences, time_first
from ..foreign.known import adapter_of

__all__ = ["Axes", "Reading"]


class Axes(NamedTuple):
    """The axes of a value of this shape, that came in this step mode.

    - `timed`: whether the first one is time: of a call for a sequence or, where the value has `grown`, of all single
      steps since the reset. `steps`: how many there are. `batch`: the samples, where there is such an axis.
    """

    shape: tuple[int, ...]
    mode: str
    timed: bool
    grown: bool
    steps: int
    batch: int | None


class Reading:
    """Reads the axes of the values of a signal of a module, anew where a value is not like the last one.

    >>> reading = Reading(spikescope.neuron.IFNode(step_mode="m"), Signal("output"))
    >>> reading(torch.zeros(4, 2, 3))[1]
    Axes(shape=torch.Size([4, 2, 3]), mode='m', timed=True, grown=False, steps=4, batch=2)
    """

    def __init__(self, module: nn.Module, signal: Signal) -> None:
        self._module, self._signal = module, signal
        self._own = module if isinstance(module, StepModule) else None  # of ours, which nobody adopts
        self._grows = self._own is not None and signal.kind in ("before", "after") and signal.name.endswith("_seq")
        self._known: Axes | None = None

    def __call__(self, value: Any) -> tuple[Any, Axes]:
        """The value with time first, and its axes."""
        own, known = self._own, self._known
        if own is None and adapter_of(self._module) is not None:  # a user may say at any time what a module is
            value = time_first(self._module, self._signal, value)
            return value, self._axes(value, "")
        mode = "" if own is None else own.step_mode
        if known is None or type(value) is not Tensor or known.shape != value.shape or known.mode != mode:
            known = self._known = self._axes(value, mode)
        return value, known

    def _axes(self, value: Any, mode: str) -> Axes:
        there = value if isinstance(value, Tensor) else next(iter(tensors_of(value)), None)
        shape: tuple[int, ...] = () if there is None else there.shape
        timed = len(shape) > 0 and self.has_time()
        batch = shape[timed] if len(shape) > timed else None
        return Axes(shape, mode, timed, timed and not in_sequences(self._module), shape[0] if timed else 1, batch)

    def has_time(self) -> bool:
        """Whether the first axis is time; single steps grow into an attribute whose name ends in `_seq`."""
        return self._grows or has_time(self._module, self._signal)
