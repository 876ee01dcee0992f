"""How a module is called: by whom, and through what."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

__all__ = ["has_own_hooks", "is_patched", "made_by_conversion", "next_in_a_row", "runs_otherwise"]

_module_call = nn.Module.__call__


def is_patched() -> bool:
    """Whether somebody has put a call of their own in the place of that of all modules, as torch.fx does to trace.

    They see what is called, and also which parameters are read: nothing may be read before theirs is called.
    """
    return nn.Module.__call__ is not _module_call


def next_in_a_row(module: nn.Module) -> nn.Module | None:
    """The module that is called next, with what `module` is about to give: where an `nn.Sequential` is calling it.

    It is asked by a function that `module.__call__` calls. A module does not know its caller, nor what that does with
    its output; of this one caller both are known, from its frame.
    """
    try:
        caller = sys._getframe(3)
    except ValueError:  # a thread that begins with the call of the module
        return None
    if caller.f_code is not nn.Sequential.forward.__code__:
        return None
    held = caller.f_locals
    if type(held["self"]).__iter__ is not nn.Sequential.__iter__:
        return None
    row = [*held["self"]._modules.values()]
    if held.get("module") is not module or row.count(module) != 1:  # modules are equal to themselves alone
        return None
    place = row.index(module) + 1
    return row[place] if place < len(row) else None


def has_own_hooks(module: nn.Module) -> bool:
    """Whether somebody has put a hook on `module`. PyTorch numbers those; the permanent ones of ours have a name."""
    kinds = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hooks and any(isinstance(key, int) for key in hooks) for hooks in kinds)


def runs_otherwise(module: nn.Module) -> bool:
    """Whether a call of `module` is more than its class says: through hooks, somebody's own or of all modules, or a
    `forward` that was put on the instance.
    """
    every: Any = nn.modules.module
    return bool(
        has_own_hooks(module)
        or "forward" in module.__dict__
        or every._global_forward_hooks
        or every._global_forward_pre_hooks
        or every._global_backward_hooks
        or every._global_backward_pre_hooks
    )


def made_by_conversion(norm: nn.Module) -> Any:
    """What `nn.SyncBatchNorm.convert_sync_batchnorm` has made of `norm`, if that is what called the caller; else None.

    It puts an `nn.SyncBatchNorm` in the place of a batch normalisation and drops all that it does not know, such as a
    step mode: the new one would take the axis N of a sequence for the channels. It has no hook for a class to say so.
    """
    if torch.compiler.is_compiling():
        return None
    asking = sys._getframe(2)
    if asking.f_code is not nn.SyncBatchNorm.convert_sync_batchnorm.__func__.__code__:  # type: ignore[attr-defined]
        return None
    held = asking.f_locals
    if held.get("module") is not norm or not isinstance(held.get("module_output"), nn.SyncBatchNorm):
        raise RuntimeError(
            "torch.nn.SyncBatchNorm.convert_sync_batchnorm of this version of PyTorch is not known to spikescope, and "
            "would lose the step modes. Use spikescope.functional.convert_sync_batchnorm(net)."
        )
    return held["module_output"]
