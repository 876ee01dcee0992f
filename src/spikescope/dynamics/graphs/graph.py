"""Recording which ATen operations a function of tensors runs.

`torch.fx` could do this too, but importing its tracer takes a second, which is longer than all the rest of the way from
a neuron to a compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .sizes import Sizes

__all__ = ["SAME", "Graph", "Node", "UntraceableError", "record"]

aten = torch.ops.aten

SAME = {aten.detach.default, aten.alias.default, aten.clone.default}
"""Operations that give what they were given: their result is no value of its own."""


class UntraceableError(ValueError):
    """A recorded function did what no graph of operations on its inputs can say."""


@dataclass(eq=False)
class Node:
    """One value of a graph: an input, or the result of an operation on other values and numbers."""

    name: str
    target: Any = None  # the operation; None for an input
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] = ()

    @property
    def inputs(self) -> list[Node]:
        """The values that it is computed from."""
        return [arg for arg in self.args if isinstance(arg, Node)]


@dataclass(frozen=True, eq=False)
class Graph:
    """Inputs, the operations that the outputs need, in order, and the outputs (values or numbers)."""

    inputs: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Any, ...]


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.inputs = tuple(Node(f"in{i}", dtype=x.dtype) for i, x in enumerate(inputs))
        self.nodes: list[Node] = []
        self.held: list[Any] = list(inputs)  # alive, so that an id stays that of one tensor
        self.node_of = {id(tensor): node for tensor, node in zip(inputs, self.inputs, strict=True)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """A mode of PyTorch otherwise imports the whole compiler at its first operation, to keep out of its way."""
        return False

    def known(self, argument: Any) -> Any:
        """The node of a tensor; a number is itself."""
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) not in self.node_of:
            raise UntraceableError(f"reads a tensor of shape {list(argument.shape)} that is not an argument")
        return self.node_of[id(argument)]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = tuple(self.known(argument) for argument in args)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):  # the number would be that of this run for ever
            raise UntraceableError(f"reads the number in a tensor, by float(), item(), `if` or the like ({func})")
        if func in SAME:
            node = known[0]
        else:
            name = f"{func.__name__.split('.')[0]}_{len(self.nodes)}"
            node = Node(name, _pure(func), known, kwargs, out.dtype)
            self.nodes.append(node)
        self.held.append(out)
        self.node_of[id(out)] = node
        return out


def _pure(target: Any) -> Any:
    """The operation that returns what `target` writes in place; what is read later is its node already."""
    packet, _, overload = str(target).removeprefix("aten.").partition(".")
    if not packet.endswith("_") or packet.endswith("__"):
        return target
    return getattr(getattr(torch.ops.aten, packet[:-1]), overload, target)


def record(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Graph:
    """The graph of `function(*inputs)`.

    UntraceableError if it reads another tensor, or a number in one; ShapeReadError if it depends on a shape.
    """
    recorder = _Recorder(inputs)
    with recorder, Sizes():
        outputs = tuple(recorder.known(out) for out in function(*inputs))
    for tensor in recorder.held:  # not before: within `Sizes` a shape is none to compare with
        recorder.node_of[id(tensor)].shape = tuple(tensor.shape)
    needed = {out for out in outputs if isinstance(out, Node)}
    nodes = []
    for node in reversed(recorder.nodes):
        if node in needed:
            nodes.append(node)
            needed.update(node.inputs)
    return Graph(recorder.inputs, tuple(reversed(nodes)), outputs)
