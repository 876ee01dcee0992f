"""Firing and reset by one kernel, for a neuron that charges by a hook.

Such a neuron runs step by step, for its hook may do anything. What follows the hook is the library's, and takes most of
the operations. So the neuron keeps another one beside it, whose step is that part alone, and which goes the short way.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ...internals import checkpoint_at_work
from .shortcut import short_way

__all__ = ["fired_and_reset", "may_go"]

FIELDS = ("v_threshold", "v_reset", "detach_reset")
STAGES = ("emit", "give", "recover")


class AfterCharge:
    """The neuron that does what is left of a step, for as long as the fields stay those of one step."""

    def __init__(self, fields: tuple[Any, ...]) -> None:
        self.fields = fields
        self.node: Any = None
        self.is_made = False

    def made(self, neuron: Any) -> Any:
        """That neuron, made now; None where its equations are not those of `neuron`."""
        self.node, self.is_made = self._make(type(neuron)), True
        return self.node

    def _make(self, owner: Any) -> Any:
        cls, fields = owner.after_charge, self.fields
        if owner.State is not cls.State:
            return None
        if any(getattr(owner, stage).__func__ is not getattr(cls, stage).__func__ for stage in STAGES):
            return None
        if any(held.ndim if isinstance(held, Tensor) else type(held) is int for held in fields[:2]):
            return None  # whether a tensor fits is found out at every call; a number is kept as a float
        try:
            node = cls(**dict(zip(FIELDS, fields, strict=False)), surrogate_function=fields[-1])
        except (TypeError, ValueError):
            return None  # what is assigned to a neuron of one's own is in one's own hands
        held = (*[getattr(node, name) for name in FIELDS], node.surrogate_function)
        return node if all(map(is_, held, fields)) else None


def may_go(neuron: Any) -> bool:
    """Whether the steps of a call may end by a kernel; what runs again for a checkpoint must run as it did."""
    return (
        neuron.backend == "auto"
        and type(neuron).after_charge is not None
        and not torch.compiler.is_compiling()
        and checkpoint_at_work(neuron.training) is None
    )


def fired_and_reset(neuron: Any, h: Any) -> Sequence[Tensor] | None:
    """The spike of a neuron whose potential is charged to `h`, and its potential after the reset, where it `may_go`.

    None where the stages have to tell: in the first steps with such fields, and where the short way is closed.
    """
    surrogate = neuron._modules.get("surrogate_function")
    fields = neuron.v_threshold, neuron.v_reset, neuron.detach_reset, surrogate
    known: AfterCharge | None = neuron.__dict__.get("_after_charge")
    if known is None or not all(map(is_, known.fields, fields)):
        neuron.__dict__["_after_charge"] = AfterCharge(fields)
        return None
    node = known.node if known.is_made else known.made(neuron)
    return None if node is None else short_way(node).outcome(node, h)
