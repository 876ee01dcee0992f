"""Steps of the integrate-and-fire neurons as functions, by the names that subclasses of published code call.

A function that evaluates fires and resets, too; it has no gradient through its spikes. `_with_v_seq` gives the
potential after every step beside the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..fields import Value

__all__ = ["LeakyCharges", "evaluating", "hard_reset", "soft_reset"]

C = TypeVar("C", bound=type[Any])


def hard_reset(v: Tensor, spike: Tensor, v_reset: Value) -> Tensor:
    """The potential `v_reset` where there was a spike."""
    return spike * v_reset + (1 - spike) * v


def soft_reset(v: Tensor, spike: Tensor, v_threshold: Value) -> Tensor:
    """The potential less the threshold where there was a spike."""
    return v - spike * v_threshold


class LeakyCharges:
    """The potential that a leaky neuron has after one step of its input, by its options."""

    @staticmethod
    def neuronal_charge_decay_input(x: Tensor, v: Value, v_reset: Value, tau: Value) -> Tensor:
        """Towards `v_reset`, with the input divided by `tau`."""
        return v + (x - (v - v_reset)) / tau

    @staticmethod
    def neuronal_charge_decay_input_reset0(x: Tensor, v: Value, tau: Value) -> Tensor:
        """Towards 0, with the input divided by `tau`."""
        return v + (x - v) / tau

    @staticmethod
    def neuronal_charge_no_decay_input(x: Tensor, v: Value, v_reset: Value, tau: Value) -> Tensor:
        """Towards `v_reset`, with the input as it is."""
        return v - (v - v_reset) / tau + x

    @staticmethod
    def neuronal_charge_no_decay_input_reset0(x: Tensor, v: Value, tau: Value) -> Tensor:
        """Towards 0, with the input as it is."""
        return v * (1 - 1 / tau) + x


def evaluating(ending: str, hard: Callable[..., Tensor], soft: Callable[..., Tensor]) -> Callable[[C], C]:
    """Give a class the functions `jit_eval_..._reset<ending>`, by how it charges with a hard and with a soft reset.

    They take `x, v, v_threshold`, with a hard reset `v_reset`, and what else `hard(x, v, v_reset, ...)` and
    `soft(x, v, ...)` take.
    """

    def decorate(cls: C) -> C:
        for reset, charge in (("hard", hard), ("soft", soft)):
            step = _step(charge, reset == "hard")
            functions = {
                f"jit_eval_single_step_forward_{reset}_reset{ending}": step,
                f"jit_eval_multi_step_forward_{reset}_reset{ending}": _steps(step, False),
                f"jit_eval_multi_step_forward_{reset}_reset{ending}_with_v_seq": _steps(step, True),
            }
            for name, function in functions.items():
                setattr(cls, name, staticmethod(function))
        return cls

    return decorate


def _step(charge: Callable[..., Tensor], hard: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    def step(x: Tensor, v: Value, v_threshold: Value, *fields: Value, **named: Value) -> tuple[Tensor, Tensor]:
        h = charge(x, v, *fields, **named)
        spike = (h >= v_threshold).to(x)
        if hard:
            return spike, hard_reset(h, spike, fields[0] if fields else named["v_reset"])
        return spike, soft_reset(h, spike, v_threshold)

    return step


def _steps(step: Callable[..., tuple[Tensor, Tensor]], course: bool) -> Callable[..., tuple[Tensor, ...]]:
    def steps(x_seq: Tensor, v: Value, v_threshold: Value, *fields: Value, **named: Value) -> tuple[Tensor, ...]:
        spikes, potentials = [], []
        for x in x_seq.unbind(0):
            spike, v = step(x, v, v_threshold, *fields, **named)
            spikes.append(spike)
            potentials.append(v)
        told = (torch.stack(spikes), potentials[-1])
        return (*told, torch.stack(potentials)) if course else told

    return steps
