"""The modes, traces and transforms that operations may run in."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

__all__ = [
    "at_work",
    "function_modes",
    "in_forward_mode",
    "in_nested_grad",
    "in_transform",
    "is_undisturbed",
    "jit_trace",
    "takes_operations_alone",
]

function_modes = torch._C._len_torch_function_stack  # how many there are; PyTorch has no public question for it


def at_work() -> tuple[bool, bool, bool]:
    """Whether `torch.compile` is at work on this call, a transform of `torch.func`, the autograd engine: as
    `in_transform` and `in_backward` say, asked once.
    """
    if torch.compiler.is_compiling():
        return True, False, False
    return False, torch._C._are_functorch_transforms_active(), torch._C._current_graph_task_id() != -1


def is_undisturbed(in_backward: bool = False) -> bool:
    """Whether this thread runs operations as they come: in no mode, transform or trace, nor in such a backward pass."""
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or (not in_backward and torch._C._current_graph_task_id() != -1)
        or torch._C._get_tracing_state()
        or forward_ad._current_level >= 0
        or torch.compiler._is_exporting_flag
    )


def in_transform() -> bool:
    """Whether `torch.func` is transforming this call (`vmap`, `grad`, ...), so that values are stand-ins.

    PyTorch has no public question for it; compiled code answers in its own way.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def in_forward_mode() -> bool:
    """Whether a forward-mode derivative (`torch.func.jvp`, dual tensors) is being taken.

    PyTorch answers this only for a given tensor, and by unpacking it.
    """
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def in_nested_grad() -> bool:
    """Whether two derivatives of `torch.func` are being taken, one inside the other."""
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return False
    stack = torch._C._functorch.get_interpreter_stack() or []
    return sum(level.key() == torch._C._functorch.TransformType.Grad for level in stack) > 1


def takes_operations_alone() -> bool:
    """Whether what runs is written down by `torch.jit.trace` or `torch.func.functionalize`.

    Neither takes an autograd function, and a trace that is run elsewhere must hold no operator of ours.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._is_tracing():
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() == torch._C._functorch.TransformType.Functionalize for level in stack)


def jit_trace() -> Any:
    """The trace that `torch.jit.trace` is making, or None; one is told from another by identity."""
    return torch._C._get_tracing_state() if torch._C._is_tracing() else None
