"""Copies of networks that hold neurons of other libraries, and how these come to rest."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from ...base import MemoryModule
from ...form import tensors_of
from .known import adapter_of

__all__ = ["copied", "rested"]


def copied(net: nn.Module) -> nn.Module:
    """A deep copy of a network, whose states have no graph: others keep theirs, and PyTorch copies no such tensor."""
    memo: dict[int, Tensor] = {}
    for module in net.modules():
        for held in tensors_of((dict(vars(module)), dict(module._buffers))):
            if not held.is_leaf:
                memo[id(held)] = held.detach().clone()
    return deepcopy(net, memo)


def rested(net: nn.Module) -> None:
    """Put the states of all modules of a copy back."""
    for module in net.modules():
        adapter = adapter_of(module)
        if isinstance(module, MemoryModule):
            module.reset()
        elif adapter is not None:
            adapter.rest(module)
