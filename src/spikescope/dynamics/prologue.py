"""Numbers in a step: what they are while it is traced, and what is computed of the fields alone, once a call.

The eager loop computes with a field that is a number as Python does, in double precision, and rounds it to the dtype of
the state where it meets a tensor, be that one of a single value. While a step is traced a 0-dim float64 tensor stands
for the number; where an operator of Python does otherwise with it than with a number, `AsNumbers` sets it right.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .graph import Node
from .ops import PASS

__all__ = ["AsNumbers", "evaluate", "rounded"]

aten = torch.ops.aten

_OF_PYTHON: dict[object, Callable[..., Any]] = {
    aten.add.Tensor: operator.add,
    aten.sub.Tensor: operator.sub,
    aten.rsub.Scalar: lambda a, b: b - a,
    aten.mul.Tensor: operator.mul,
    aten.div.Tensor: operator.truediv,
    aten.neg.default: operator.neg,
    aten.abs.default: abs,
    **dict.fromkeys((aten.pow.Tensor_Tensor, aten.pow.Tensor_Scalar, aten.pow.Scalar), operator.pow),
}
_OF_MATH = (
    *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "erf", "erfc"),
    *("tanh", "sinh", "cosh", "atan", "asin", "acos", "asinh", "acosh", "atanh"),
)
_OF_PYTHON |= {getattr(aten, name).default: getattr(math, name) for name in _OF_MATH}
"""What a step calls where a field is a number: PyTorch's functions of the name may round otherwise, even in double."""

_POWERS = {aten.pow.Tensor_Tensor, aten.pow.Scalar}  # of a number PyTorch computes them in other ways than of a tensor


class AsNumbers(TorchFunctionMode):
    """Has Python's division do with the tensors that stand for numbers what it does with numbers."""

    def __init__(self, numbers: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = {id(number): number for number in numbers}  # alive, so that an id stays that of one tensor

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        alone = [id(arg) in self.held for arg in args if isinstance(arg, Tensor)]
        if func is Tensor.__rtruediv__ and all(alone):  # a tensor multiplies its reciprocal with the numerator
            out = torch.div(args[1], args[0])
        elif func is Tensor.div and alone == [True, False]:  # a number divided by a tensor is that too
            out = args[1].reciprocal() * args[0]
        else:
            out = func(*args, **(kwargs or {}))
        if alone and all(alone) and isinstance(out, Tensor):
            self.held[id(out)] = out
        return out


def rounded(held: Any, real: torch.dtype) -> Tensor:
    """A number as it meets a tensor of the dtype `real`; a tensor is itself."""
    if isinstance(held, Tensor):
        return held
    if isinstance(held, bool):
        return torch.tensor(held, device="cpu")
    return torch.tensor(held, dtype=torch.float64, device="cpu").to(real)


def evaluate(nodes: Sequence[Node], values: dict[Node, Any], real: torch.dtype) -> dict[Node, Any]:
    """The values of all `nodes`, each a number or a tensor, from those of what they are computed from."""
    values = dict(values)
    for node in nodes:
        args = [values[arg] if isinstance(arg, Node) else arg for arg in node.args]
        if node.target in PASS:
            values[node] = args[0]
        elif node.inputs and not any(isinstance(arg, Tensor) for arg in args):
            values[node] = _of_numbers(node, args)
        elif node.target in _POWERS:
            values[node] = torch.pow(*args)
        else:
            placed = [rounded(v, real) if isinstance(a, Node) else v for a, v in zip(node.args, args, strict=True)]
            values[node] = node.target(*placed, **node.kwargs)
    return values


def _of_numbers(node: Node, args: list[Any]) -> Any:
    function = _OF_PYTHON.get(node.target)
    if function is not None and not node.kwargs:
        return function(*args)
    placed = [rounded(v, torch.float64) if isinstance(a, Node) else v for a, v in zip(node.args, args, strict=True)]
    return node.target(*placed, **node.kwargs).item()
