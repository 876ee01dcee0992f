"""The private calls of PyTorch that the library relies on, each in one place with its reason."""

from __future__ import annotations

import torch

__all__ = ["in_backward"]


def in_backward() -> bool:
    """Whether the autograd engine is running a backward pass in this thread.

    A forward pass in there is the recomputation of an activation checkpoint. PyTorch has no public question for it.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
