"""What an operation of a traced step must be, so that a kernel for single neurons says the same as PyTorch."""

from __future__ import annotations

import torch

from .graph import Node
from .ops import LOGICAL, OPS, PASS, meaning

__all__ = ["TRACED", "refused"]

TRACED = 3
"""The neurons on which a step is traced."""

_OF_THE_RESULT = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}


def refused(node: Node, real: torch.dtype) -> tuple[str, str] | None:
    """Why no kernel can run the operation, with a state of the dtype `real`, and what to do; None if it can."""
    target = meaning(node)
    if target is not None and target not in PASS and target not in OPS:
        return "has no row in spikescope.dynamics.ops.OPS", "Write the step without it, or add the row."
    if node.shape not in ((), (TRACED,)):
        return f"gives the shape {list(node.shape)} for {TRACED} neurons", "A kernel sees each neuron alone."
    row = OPS.get(node.target)
    numbers = [argument for argument in node.args if isinstance(argument, (Node, int, float))]
    if (row and 0 < row.operands < len(numbers)) or not _OF_THE_RESULT.issuperset(node.kwargs):
        return f"has arguments for which its row has no place: {[*numbers[2:], node.kwargs]}", "Write it without them."
    if not _kept(node, target, real):
        return f"gives {node.dtype}", f"A kernel computes in {real}, with conditions from comparisons alone."
    return None


def _kept(node: Node, target: object, real: torch.dtype) -> bool:
    """Whether the result is of the dtype that a kernel would give it."""
    if node.dtype is torch.bool:
        return target in LOGICAL or target in PASS
    if node.dtype is real:
        return True
    if node.inputs or not node.dtype.is_floating_point:
        return False
    number = node.args[0]  # alone, it may be narrower where nothing is lost
    return bool(torch.tensor(number, dtype=node.dtype).to(real) == torch.tensor(number, dtype=real))
