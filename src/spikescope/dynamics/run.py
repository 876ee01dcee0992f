"""Which backend runs a neuron, and running it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from . import eager

__all__ = ["Plan", "backends", "plan", "run_sequence", "run_single"]

backends: tuple[str, ...] = ("auto", "torch")


class Plan(NamedTuple):
    """The backend that would run, and why."""

    backend: str
    reason: str


def plan(backend: str, neuron: type[Any], x: Tensor) -> Plan:
    """Decide: the forced backend, or with `'auto'` the fastest that gives the same spikes."""
    if backend == "torch":
        return Plan("torch", "the backend is set to 'torch'")
    return Plan("torch", f"'auto': the eager loop is the only backend of {neuron.__name__} for {x.device.type}")


def run_single(backend: str, neuron: type[Any], p: Any, state: Any, x: Tensor) -> eager.Step:
    """One step from `state` by the planned backend."""
    return eager.single(neuron.step, p, eager.start(state, x), x)


def run_sequence(backend: str, neuron: type[Any], p: Any, state: Any, x_seq: Tensor, keep_v: bool) -> eager.Sequence:
    """All steps from `state` by the planned backend."""
    first = x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:])
    return eager.sequence(neuron.step, p, eager.start(state, first), x_seq, keep_v)
