"""Finding where a value that is not finite came up first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..choose.modules import named
from .ring import Frame
from .triggers import Trigger

__all__ = ["in_input", "in_kept", "in_loss", "in_weights"]

KIND = "nonfinite"


def bad(value: Tensor) -> tuple[int, ...] | None:
    """The index of the first value that is not finite."""
    if not (value.is_floating_point() or value.is_complex()):
        return None
    found = (~value.isfinite()).nonzero()
    return tuple(found[0].tolist()) if len(found) else None


def _what(value: float) -> str:
    return "NaN" if value != value else "inf" if value > 0 else "-inf"


def in_input(step: int, value: Tensor, axes: tuple[int, int] | None, call: int | None) -> Trigger | None:
    """In what the network is given.

    - `axes`: the steps and samples of a sequence, by which its axes are known. `call`: of one that is given step by
      step, which step it is.
    """
    found, time, sample = bad(value), call, None
    if found is None:
        return None
    if axes is not None and value.shape[:2] == axes and len(found) > 1:
        time, sample = found[:2]
        words = f"sample {sample}, step {time}"
    elif axes is not None and found and value.shape[0] == axes[1]:
        sample = found[0]
        words = f"sample {sample}" + ("" if call is None else f", step {call}")
    else:
        words = f"the place {found}" + ("" if call is None else f" of step {call}")
    return Trigger(KIND, step, f"the input holds {_what(value[found].item())} in {words}", "", sample, time)


def in_kept(frame: Frame, samples: Sequence[int] | None) -> Trigger | None:
    """In the signals that were kept of a step: forwards in the order of the data, then backwards.

    - `samples`: which ones of the batch were kept; None for the first.
    """
    for entry in frame.entries:
        values, moment = entry.values, entry.moment
        if not isinstance(values, Tensor) or (found := bad(values)) is None:
            continue
        time, sample = found[0] + (moment.start or 0), found[1] if samples is None else samples[found[1]]
        what = {"current": "what comes into", "grad_output": "the gradient at", "h": "the potential of"}
        words = f"{what.get(entry.signal, entry.signal)} {moment.name!r} holds {_what(values[found].item())} in"
        return Trigger(KIND, frame.number, f"{words} sample {sample}, step {time}", moment.name, sample, time)
    return None


def in_loss(step: int, loss: float, net: nn.Module | None) -> Trigger:
    """In the loss; where a state that `net` is in shows the sample and the layer, these too."""
    words = f"the loss is {_what(loss)}"
    for name, module in ({} if net is None else named(net)).items():
        held: Any = getattr(module, "_memories", {}).get("v")
        if isinstance(held, Tensor) and held.ndim > 1 and (found := bad(held.detach())) is not None:
            words += f"; the first state that is not finite is that of {name!r}, in sample {found[0]}"
            return Trigger(KIND, step, words, name, found[0])
    return Trigger(KIND, step, words)


def in_weights(step: int, net: nn.Module, odd: Sequence[Tensor], turns: int = 1) -> Trigger | None:
    """In what the network has learned, after the update.

    - `odd`: the weights that were not finite then, or whose sum was not; by now more of them may be. `turns`: in how
      many steps all were looked at.
    """
    update = "the update" if turns == 1 else f"this update or one of the {turns - 1} before it"
    for name, held in named(net).items():
        for own, weight in held.named_parameters(recurse=False):
            if any(weight is each for each in odd) and not bool(torch.isfinite(weight.detach()).all()):
                words = f"after {update} there are values in {own!r} of {name!r} that are not finite"
                return Trigger(KIND, step, words, name)
    return None
