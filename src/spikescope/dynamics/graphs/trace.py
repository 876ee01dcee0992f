"""A neuron's step and its vector-Jacobian product as flat pointwise graphs, split into prologue and body.

What depends on the fields alone (the prologue) is computed once a call, by PyTorch, with the very arithmetic of the
eager loop; what depends on the input or the state (the body) is what the kernels print.

A field that is a number enters as a 0-dim float64 tensor that stands for it (`prologue.py`). A field that is a tensor
enters with an element per neuron, so that its gradient comes per neuron too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...internals import vector_jacobian
from ...surrogate import Surrogate
from ..eager import StepFunction
from .graph import Graph, Node, UntraceableError, record
from .ops import DIVISIONS, OPS, PASS, compared_difference, meaning
from .prologue import AsNumbers, Prologue
from .rules import TRACED, disagreement, refused, rounds_alike
from .sizes import ShapeReadError

__all__ = ["Body", "Model", "Traced", "UnsupportedOperationError", "split", "trace_backward", "trace_forward"]


_POINTWISE = "A step is a function of the values of one neuron."


class UnsupportedOperationError(NotImplementedError):
    """No kernel can be made of a step: an operation has no row in the operations table, or sees more than a neuron."""


class Named(Protocol):
    """What is traced: its name, and a letter for each number of its equations."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> str: ...


class Slot(NamedTuple):
    """One number of the equations: the field `name` of the neuron, or of its part `part`."""

    part: str | None
    name: str


@dataclass(frozen=True, eq=False)
class Model:
    """A neuron with everything fixed but its numbers."""

    name: str
    step: StepFunction
    State: Any
    template: Any  # Params, with the options in place
    parts: dict[str, tuple[type[Surrogate], Any]]  # the surrogates among the fields, each with its own template
    slots: tuple[Slot, ...]
    kinds: str  # a letter a slot: 'n' a number, 's' a 0-dim tensor, 'a' a tensor

    def params(self, values: Sequence[Any]) -> Any:
        """The fields with `values` in their slots."""
        own = {slot.name: held for slot, held in zip(self.slots, values, strict=True) if slot.part is None}
        parts = {}
        for part, (surrogate, template) in self.parts.items():
            held = {slot.name: held for slot, held in zip(self.slots, values, strict=True) if slot.part == part}
            parts[part] = partial(surrogate.fire, template._replace(**held))
        return self.template._replace(**own, **parts)

    def run(self, x: Tensor, state: Sequence[Tensor], values: Sequence[Any]) -> tuple[Tensor, ...]:
        """One step, flat: output, next state, and the potential before the reset, a number where it is not told."""
        out = self.step(self.params(values), self.State(*state), x)
        return out.output, *out.state, math.nan if out.h is None else out.h


class Traced(NamedTuple):
    """What tracing has found out."""

    graph: Graph
    alike: bool  # whether it rounds numbers as the eager loop does


@dataclass(frozen=True, eq=False)
class Body:
    """A traced graph, split.

    `inputs` names the placeholders that vary with the neuron; `constants` the results of the prologue, each a
    number or an array; `outputs` are nodes of the body, constants, or numbers.
    """

    nodes: tuple[Node, ...]
    inputs: dict[Node, str]
    constants: dict[Node, str]
    arrays: frozenset[str]  # the constants that have a value per neuron
    numbers: frozenset[str]  # the constants that are Python numbers in the eager loop
    outputs: tuple[Any, ...]
    divisors: frozenset[str]  # the numbers that something is divided by
    compared: frozenset[str]  # the other numbers that something is compared with, by its difference from them
    conditions: frozenset[str]  # the constants that are conditions
    traced: Traced
    inexact: frozenset[Any]  # the operations whose texts do not give the very bits of PyTorch
    prologue: Prologue  # what the constants are computed by

    @property
    def others(self) -> frozenset[str]:
        """The numbers of which none of that is known."""
        return self.numbers - self.divisors - self.compared - self.conditions

    @property
    def exact(self) -> bool:
        """Whether the texts of its operations give the very bits of PyTorch."""
        return self.traced.alike and not self.inexact


def trace_forward(model: Model, real: torch.dtype, known: Traced | None = None) -> Body:
    """`(x, *state)` and the values to `(output, *state, h)`; what is `known` is not traced again."""
    names = ["x", *(f"s{i}" for i in range(len(model.State._fields)))]

    def forward(inputs: list[Tensor], values: list[Any]) -> tuple[Tensor, ...]:
        return model.run(inputs[0], inputs[1:], values)

    return split(model, forward, names, real, "f", len(names) + 1, known)


def trace_backward(model: Model, real: torch.dtype, wanted: tuple[int, ...], known: Traced | None = None) -> Body:
    """`(x, *state, gy, *gstate)` and the values to `(gx, *gstate, *gvalues, *state)`: gradients, of the values those in
    the slots `wanted`, and the next state, by which a segment is run again.
    """
    size = len(model.State._fields)
    names = ["x", *(f"s{i}" for i in range(size)), "gy", *(f"g{i}" for i in range(size))]

    def backward(inputs: list[Tensor], values: list[Any]) -> tuple[Tensor, ...]:
        leaves = [held.detach().requires_grad_() for held in inputs[: size + 1]]
        held = [v.detach().requires_grad_() if i in wanted else v for i, v in enumerate(values)]
        with torch.enable_grad():
            outputs = model.run(leaves[0], leaves[1:], held)[: size + 1]
        needed = [(out, grad) for out, grad in zip(outputs, inputs[size + 1 :], strict=True) if out.requires_grad]
        wrt = [*leaves, *(held[i] for i in wanted)]
        found = vector_jacobian([out for out, _ in needed], wrt, [grad for _, grad in needed])
        return *found, *(out.detach() for out in outputs[1:])

    return split(model, backward, names, real, "b", size + 1, known)


def split(
    model: Named,
    function: Callable[..., Any],
    names: list[str],
    real: torch.dtype,
    constant: str,
    told: int,
    known: Traced | None = None,
) -> Body:
    """The body of a function of inputs with these `names` and of the values of the model.

    - `constant`: what the names of the constants begin with.
    - `told`: how many of its results, the first, are to be rounded as the function rounds them.
    """
    count = len(names)
    graph = _traced(model, function, count, real) if known is None else known.graph
    values_at = graph.inputs[count:]
    body, fixed = _partition(graph, set(graph.inputs[:count]))
    if known is None:  # else it was looked at before it was kept
        for node in body:
            _check(model, node, real)
        if (why := disagreement(graph, function, model.kinds, real)) is not None:
            raise _unsupported(model, why, _POINTWISE)
        known = Traced(graph, not told or rounds_alike(graph, function, model.kinds, real, told))
    arrays = _grown({n for n, kind in zip(values_at, model.kinds, strict=True) if kind == "a"}, fixed, any)
    numbers = _grown({n for n, kind in zip(values_at, model.kinds, strict=True) if kind == "n"}, fixed, all)
    read = {argument for node in body for argument in node.inputs} | {o for o in graph.outputs if isinstance(o, Node)}
    used = [node for node in (*values_at, *fixed) if node in read]
    constants = {node: f"{constant}{i}" for i, node in enumerate(used)}
    divisors = {node.args[1] for node in body if node.target in DIVISIONS and node.args[1] in numbers}
    differences = [found for node in body if (found := compared_difference(node)) is not None]
    compared = {node.args[1] for node in differences if node.args[1] in numbers} - divisors

    return Body(
        nodes=tuple(body),
        inputs=dict(zip(graph.inputs[:count], names, strict=True)),
        constants=constants,
        arrays=frozenset(constants[node] for node in used if node in arrays),
        numbers=frozenset(constants[node] for node in used if node in numbers),
        outputs=graph.outputs,
        divisors=frozenset(constants[node] for node in divisors),
        compared=frozenset(constants[node] for node in compared),
        conditions=frozenset(constants[node] for node in used if node.dtype is torch.bool),
        traced=known,
        inexact=frozenset(meaning(node) for node in body if not _exact(node)),
        prologue=Prologue(values_at, model.kinds, fixed, used, real),
    )


def _partition(graph: Graph, varying: set[Node]) -> tuple[list[Node], list[Node]]:
    """The operations on what varies with the neuron, and those on the fields alone."""
    body, fixed = [], []
    for node in graph.nodes:
        if node.inputs and varying.isdisjoint(node.inputs):
            fixed.append(node)
        else:
            varying.add(node)
            body.append(node)
    return body, fixed


def _grown(kind: set[Node], fixed: Sequence[Node], rule: Callable[[Iterable[bool]], bool]) -> set[Node]:
    """The values of a kind, and those computed from them: from `any` of the kind, or from `all`."""
    for node in fixed:
        if rule(argument in kind for argument in node.inputs):
            kind.add(node)
    return kind


def _traced(model: Named, function: Callable[..., Any], count: int, real: torch.dtype) -> Graph:
    """The graph of a function of `count` inputs and the values of the model."""
    inputs = [torch.full((TRACED,), 0.3 + 0.01 * i, dtype=real) for i in range(count)]  # leaves the user's seed alone
    values = [
        torch.full(() if kind == "n" else (TRACED,), 0.7 + 0.01 * i, dtype=torch.float64 if kind == "n" else real)
        for i, kind in enumerate(model.kinds)
    ]
    try:
        with torch.no_grad(), AsNumbers(v for v, kind in zip(values, model.kinds, strict=True) if kind == "n"):
            return record(lambda *all: function(all[:count], all[count:]), [*inputs, *values])
    except ShapeReadError as error:
        why, cure = str(error), _POINTWISE
    except UntraceableError as error:
        why, cure = str(error), "Make a tensor a field with `value(...)`; leave numbers to operations of PyTorch."
    except Exception as error:  # where it is the step that is wrong, the eager loop says so
        why, cure = f"fails on {TRACED} neurons with {type(error).__name__}: {error}", _POINTWISE
    raise _unsupported(model, why, cure)


def _unsupported(model: Named, why: str, cure: str) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"{model.name}: its step {why}, so that no fused kernel can be made of it; the eager loop (backend='torch') "
        f"runs it. {cure}"
    )


def _exact(node: Node) -> bool:
    target = meaning(node)
    return target is None or target in PASS or OPS[target].exact


def _check(model: Named, node: Node, real: torch.dtype) -> None:
    found = refused(node, real)
    if found is not None:
        raise _unsupported(model, f"uses the operation {node.target}, which {found[0]}", found[1])
