"""From the key of a neuron to its traced graphs, each made once a process.

`dynamics/key.py` says what stands in a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...fields.class_form import changed_since, forms
from ...surrogate import Surrogate
from ..cpp.borrowed import borrowed, missing
from ..key import parted_key
from ..triton import trial
from .graph import Node
from .ops import PASS, meaning
from .trace import Body, Model, Slot, UnsupportedOperationError, trace_backward, trace_forward
from .trace_cache import Memory, recall, remember

__all__ = ["Program", "Values", "program", "refusal"]


class Values(NamedTuple):
    """The numbers of the equations as they come through an operator: tensors and Python numbers apart."""

    kinds: str
    tensors: Sequence[Tensor]
    numbers: tuple[float, ...]

    def is_scalar(self, slot: int) -> bool:
        """Whether the tensor in this slot is one number for all neurons."""
        return self.kinds[slot] == "s"

    def slots(self, real: torch.dtype) -> list[float | Tensor]:
        """All of them in the order of their slots, as a prologue and the step take them."""
        numbers, tensors = iter(self.numbers), iter(self.tensors)
        return [next(numbers) if kind == "n" else next(tensors).to(real) for kind in self.kinds]


class Program:
    """The graphs of one neuron with one set of options."""

    def __init__(self, key: str) -> None:
        self.forms, kinds = parted_key(key)
        form, *part_forms = self.forms
        declared, fixed = forms[form]
        neuron: Any = declared  # a pointwise neuron, which this room knows by its parts alone
        slots = [Slot(None, name) for name in neuron.dynamic if fixed.get(name, 0) is not None]
        parts = {}
        names = [name for name, spec in neuron.fields.items() if spec.factory is not None]
        for name, part_form in zip(names, part_forms, strict=True):
            surrogate, options = forms[part_form]
            if not (issubclass(surrogate, Surrogate) and surrogate.pointwise):
                raise UnsupportedOperationError(f"{surrogate.__name__} is not a pointwise surrogate")
            parts[name] = (surrogate, _params(surrogate, options))
            slots += [Slot(name, field) for field in surrogate.dynamic if options.get(field, 0) is not None]
        self.name = neuron.__name__
        self.memory = Memory(key)
        self.states = len(neuron.State._fields)
        self.model = Model(
            neuron.__name__, neuron.fed_step, neuron.State, _params(neuron, fixed), parts, tuple(slots), kinds
        )
        fixed_parts = {name for name, (surrogate, _) in parts.items() if not surrogate.has_primitive()}
        self.differentiable = tuple(
            i for i, kind in enumerate(kinds) if kind != "n" and slots[i].part not in fixed_parts
        )
        self._bodies: dict[tuple[Any, ...], Body] = {}  # without a lock: two threads that trace at once trace the same

    def forward(self, real: torch.dtype) -> Body:
        """The traced step, for a state of the dtype `real`."""
        return self._body(trace_forward, real)

    def inexact(self, real: torch.dtype, backend: str) -> str | None:
        """Why spikes and states of the kernel are not bit for bit those of the eager loop; None if they are."""
        body = self.forward(real)
        if not body.traced.alike:
            return "its step rounds a number in a way of its own"
        for target in sorted(body.inexact, key=str):
            why = missing(target, real) if backend == "cpp" else trial.otherwise(target, real)
            if why is None and self.positional(real) and self._takes_an_input(target, body):
                why = "of an input or a state as it is, its last bit depends on how that lies in memory"
            if why is not None:
                return f"its step uses {str(target).split('.')[1]}, which rounds otherwise in a kernel ({why})"
        return None

    def _takes_an_input(self, target: object, body: Body) -> bool:
        as_given = set(body.inputs)
        for node in body.nodes:
            if meaning(node) in PASS and as_given.issuperset(node.inputs):
                as_given.add(node)
        return any(meaning(node) is target and not as_given.isdisjoint(node.inputs) for node in body.nodes)

    def positional(self, real: torch.dtype) -> bool:
        """Whether the last bit of its values depends on where in memory a neuron lies."""
        functions = (borrowed(target, real) for target in self.forward(real).inexact)
        return any(function is not None and function.positional for function in functions)

    def tells_h(self, real: torch.dtype) -> bool:
        """Whether its step tells the potential before the reset."""
        return isinstance(self.forward(real).outputs[-1], Node)

    def backward(self, real: torch.dtype, wanted: tuple[int, ...]) -> Body:
        """The traced vector-Jacobian product, with the gradients of the numbers in `wanted`."""
        return self._body(trace_backward, real, wanted)

    def _body(self, trace: Callable[..., Body], *what: Any) -> Body:
        found = self._bodies.get(what)
        if found is None:
            for form in self.forms:
                if (why := changed_since(form, "the call that the kernel is made for")) is not None:
                    raise UnsupportedOperationError(why)
            name = self.memory.name(trace.__name__, *what)
            known = recall(name)
            made = _apart(trace, self.model, *what) if known is None else trace(self.model, *what, known)
            if known is None:
                remember(name, made.traced)
            found = self._bodies.setdefault(what, made)
        return found


def _apart(trace: Callable[..., Body], *args: Any) -> Body:
    """Trace in a thread of its own: an operator runs without autograd, and a caller may be under modes of PyTorch."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(trace, *args).result()


def _params(cls: type[Any], options: dict[str, Any]) -> Any:
    return cls.Params._make(options.get(name) for name in cls.fields)


@cache
def program(key: str) -> Program:
    """The program of a key."""
    return Program(key)


@cache
def refusal(key: str, gradients: bool, real: torch.dtype) -> str | None:
    """Why no kernel can be made of a neuron with a state of the dtype `real`, with `gradients` also none for its
    backward pass; None if one can.
    """
    try:
        made = program(key)
        made.forward(real)
        if gradients:
            made.backward(real, made.differentiable)
    except UnsupportedOperationError as error:
        return str(error)
    return None
