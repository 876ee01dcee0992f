"""Numbers in a step: what they are while it is traced, and what is computed of the fields alone, once a call.

The eager loop computes with a field that is a number as Python does, in double precision, and rounds it to the dtype of
the state where it meets a tensor, be that one of a single value. While a step is traced a 0-dim float64 tensor stands
for the number; where an operator of Python does otherwise with it than with a number, `AsNumbers` sets it right.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .graph import Node
from .ops import PASS

__all__ = ["AsNumbers", "Prologue", "Rest", "evaluate", "rounded"]

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

_BY_PYTORCH = {
    getattr(aten, name).default: getattr(torch, name) for name in (*_OF_MATH, "sigmoid", "neg", "abs", "reciprocal")
}
"""Operations of one tensor as PyTorch's functions, which come to them in half the time that it takes by their names."""

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


def evaluate(nodes: Sequence[Node], values: Mapping[Node, Any], real: torch.dtype) -> dict[Node, Any]:
    """The values of all `nodes`, each a number or a tensor, from those of what they are computed from."""
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    places = map(_Place, range(len(tensors)))
    held = {node: next(places) if isinstance(value, Tensor) else value for node, value in values.items()}
    _run(_left(nodes, held, len(tensors), real), tensors)
    return {node: tensors[value.at] if isinstance(value, _Place) else value for node, value in held.items()}


class Prologue:
    """What is computed of the fields alone; a field of the kind 'n' is a number, of another a tensor."""

    def __init__(
        self, fields: Sequence[Node], kinds: str, nodes: Sequence[Node], constants: Sequence[Node], real: torch.dtype
    ) -> None:
        self.fields, self.kinds, self.nodes, self.constants, self.real = fields, kinds, nodes, constants, real

    def __call__(self, numbers: Sequence[float]) -> Rest:
        """What is left to compute where the fields that are numbers are known; of `numbers` they come first."""
        count = self.kinds.count("n")
        return _rest(self, struct.pack(f"{count}d", *numbers[:count]))  # as bytes 0.0 is not -0.0


class Rest:
    """A prologue with its numbers in place: called with the fields that are tensors it gives the constants."""

    def __init__(self, prologue: Prologue, numbers: Iterable[float]) -> None:
        own, places = iter(numbers), map(_Place, count())
        kinds = zip(prologue.fields, prologue.kinds, strict=True)
        held: dict[Node, Any] = {node: next(own) if kind == "n" else next(places) for node, kind in kinds}
        tensors = len(prologue.kinds) - prologue.kinds.count("n")
        self.operations, self.real = _left(prologue.nodes, held, tensors, prologue.real), prologue.real
        found = [held[node] for node in prologue.constants]
        self.constants = [value if isinstance(value, _Place) else float(value) for value in found]

    def __call__(self, tensors: Sequence[Tensor]) -> list[float | Tensor]:
        """The constants in their order: of numbers alone a number, else a tensor."""
        return self.among(self.computed(tensors))

    def computed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The fields in the dtype of the state, then all that is computed of them."""
        held = [field if field.dtype is self.real else field.to(self.real) for field in tensors]
        _run(self.operations, held)
        return held

    def share(self, other: Rest) -> None:
        """Where another prologue leaves the same to do, have its list of operations."""
        if len(self.operations) == len(other.operations) and all(map(_alike, self.operations, other.operations)):
            self.operations = other.operations

    def reads(self, places: Iterable[int]) -> bool:
        """Whether something is computed of the fields in these places, of those that are tensors."""
        read = {at for operation in self.operations for _, at in operation.tensors}
        return not read.isdisjoint(places)

    def among(self, held: Sequence[Tensor]) -> list[float | Tensor]:
        """The constants, from what was `computed`."""
        return [held[value.at] if isinstance(value, _Place) else value for value in self.constants]


@lru_cache(maxsize=1024)
def _rest(prologue: Prologue, told: bytes) -> Rest:
    return Rest(prologue, struct.unpack(f"{len(told) // 8}d", told))


class _Place(NamedTuple):
    """Where a tensor is among those of a run: the given ones, then the result of each operation."""

    at: int


class _Operation(NamedTuple):
    """An operation that is left: its arguments, and which of them are tensors, from where."""

    function: Callable[..., Tensor]
    arguments: list[Any]
    tensors: list[tuple[int, int]]
    options: dict[str, Any]


def _alike(one: _Operation, other: _Operation) -> bool:
    """Whether two operations are one."""
    return (
        (one.function, one.tensors, one.options) == (other.function, other.tensors, other.options)
        and len(one.arguments) == len(other.arguments)
        and all(map(_is_one, one.arguments, other.arguments))
    )


def _is_one(held: Any, other: Any) -> bool:
    """Whether two arguments are the same, to the bit."""
    if isinstance(held, Tensor) and isinstance(other, Tensor):
        return held.dtype is other.dtype and held.shape == other.shape and repr(held.tolist()) == repr(other.tolist())
    return type(held) is type(other) and repr(held) == repr(other)


def _left(nodes: Sequence[Node], held: dict[Node, Any], given: int, real: torch.dtype) -> list[_Operation]:
    """What there is to do where only tensors are not known, of which some are `given`.

    What is known of each node is added to those that are `held`: its number, or its place.
    """
    left: list[_Operation] = []
    for node in nodes:
        args = [held[arg] if isinstance(arg, Node) else arg for arg in node.args]
        tensors = [(place, arg.at) for place, arg in enumerate(args) if isinstance(arg, _Place)]
        if node.target in PASS:
            held[node] = args[0]
        elif node.inputs and not tensors:
            held[node] = _of_numbers(node, args)
        else:
            function = torch.pow if node.target in _POWERS else _BY_PYTORCH.get(node.target, node.target)
            if node.target not in _POWERS:
                named = zip(node.args, args, strict=True)
                args = [rounded(v, real) if isinstance(a, Node) and type(v) is not _Place else v for a, v in named]
            held[node] = _Place(given + len(left))
            left.append(_Operation(function, args, tensors, node.kwargs))
    return left


def _run(operations: Sequence[_Operation], tensors: list[Tensor]) -> None:
    """Append the result of each operation to the tensors."""
    for function, arguments, places, options in operations:
        given = list(arguments)
        for place, at in places:
            given[place] = tensors[at]
        tensors.append(function(*given, **options))


def _of_numbers(node: Node, args: list[Any]) -> Any:
    function = _OF_PYTHON.get(node.target)
    if function is not None and not node.kwargs:
        return function(*args)
    placed = [rounded(v, torch.float64) if isinstance(a, Node) else v for a, v in zip(node.args, args, strict=True)]
    return node.target(*placed, **node.kwargs).item()
