"""A neuron's step and its vector-Jacobian product as flat pointwise graphs, split into prologue and body.

What depends on the fields alone (the prologue) is computed once a call, by PyTorch, with the very arithmetic of the
eager loop; what depends on the input or the state (the body) is what the kernels print.

A field that is a number enters as a 0-dim float64 tensor, which PyTorch rounds where it meets a tensor, as it does a
Python number. A field that is a tensor enters with an element per neuron, so that its gradient comes per neuron too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ..surrogate import Surrogate
from .eager import StepFunction
from .ops import OPS, PASS, SCALAR_POWERS

__all__ = ["Body", "Model", "UnsupportedOperationError", "trace_backward", "trace_forward"]


class UnsupportedOperationError(NotImplementedError):
    """An operation of the step has no row in the operations table."""


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
        """One step, flat: output, next state, and the potential before the reset."""
        out = self.step(self.params(values), self.State(*state), x)
        return out.output, *out.state, out.h


@dataclass(frozen=True, eq=False)
class Body:
    """A traced graph, split.

    `inputs` names the placeholders that vary with the neuron; `constants` the results of the prologue, each a
    number or an array; `outputs` are nodes of the body, constants, or numbers.
    """

    nodes: tuple[fx.Node, ...]
    inputs: dict[fx.Node, str]
    constants: dict[fx.Node, str]
    arrays: frozenset[str]  # the constants that have a value per neuron
    outputs: tuple[Any, ...]
    exact: bool
    prologue: Callable[..., Any]  # values -> constants


def trace_forward(model: Model, real: torch.dtype) -> Body:
    """`(x, *state)` and the values to `(output, *state, h)`."""
    names = ["x", *(f"s{i}" for i in range(len(model.State._fields)))]

    def forward(inputs: list[Tensor], values: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return model.run(inputs[0], inputs[1:], values)

    return _split(model, forward, names, real, "f")


def trace_backward(model: Model, real: torch.dtype, wanted: tuple[int, ...]) -> Body:
    """`(x, *state, gy, *gstate)` and the values to `(gx, *gstate, *gvalues)`, the last for the slots in `wanted`."""
    size = len(model.State._fields)
    names = ["x", *(f"s{i}" for i in range(size)), "gy", *(f"g{i}" for i in range(size))]

    def backward(inputs: list[Tensor], values: list[Tensor]) -> tuple[Tensor, ...]:
        leaves = [held.detach().requires_grad_() for held in inputs[: size + 1]]
        held = [v.detach().requires_grad_() if i in wanted else v for i, v in enumerate(values)]
        with torch.enable_grad():
            outputs = model.run(leaves[0], leaves[1:], held)[: size + 1]
        needed = [(out, grad) for out, grad in zip(outputs, inputs[size + 1 :], strict=True) if out.requires_grad]
        return torch.autograd.grad(
            [out for out, _ in needed],
            [*leaves, *(held[i] for i in wanted)],
            [grad for _, grad in needed],
            allow_unused=True,
            materialize_grads=True,
        )

    return _split(model, backward, names, real, "b")


def _split(model: Model, function: Callable[..., Any], names: list[str], real: torch.dtype, constant: str) -> Body:
    inputs = [torch.full((3,), 0.3 + 0.01 * i, dtype=real) for i in range(len(names))]  # leaves the user's seed alone
    values = [
        torch.full(() if kind == "n" else (3,), 0.7 + 0.01 * i, dtype=torch.float64 if kind == "n" else real)
        for i, kind in enumerate(model.kinds)
    ]
    graph = make_fx(function)(inputs, values).graph
    graph.eliminate_dead_code()
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    varying = set(placeholders[: len(names)])
    values_at = placeholders[len(names) :]
    body, fixed, result = [], [], None
    for node in graph.nodes:
        if node.op == "output":
            result = node
        elif node.op == "call_function":
            if any(arg in varying for arg in node.all_input_nodes) or _makes_tensor(node):
                varying.add(node)
                _check(model, node)
                body.append(node)
            else:
                fixed.append(node)
    assert result is not None
    used = [n for n in (*values_at, *fixed) if any(user in varying or user is result for user in n.users)]
    arrays = {n for n, kind in zip(values_at, model.kinds, strict=True) if kind == "a"}
    for node in fixed:
        if any(arg in arrays for arg in node.all_input_nodes):
            arrays.add(node)
    constants = {node: f"{constant}{i}" for i, node in enumerate(used)}
    return Body(
        nodes=tuple(body),
        inputs=dict(zip(placeholders[: len(names)], names, strict=True)),
        constants=constants,
        arrays=frozenset(constants[node] for node in used if node in arrays),
        outputs=tuple(result.args[0]),
        exact=all(_exact(node) for node in body),
        prologue=_prologue(values_at, fixed, used),
    )


def _makes_tensor(node: fx.Node) -> bool:
    return not node.all_input_nodes


def _exact(node: fx.Node) -> bool:
    target = _meaning(node)
    return target in PASS or target is None or OPS[target].exact


def _meaning(node: fx.Node) -> Any:
    """The operation that a node stands for; None for a small integer power, which is a product."""
    if node.target is torch.ops.aten.pow.Tensor_Scalar:
        power = node.args[1]
        if power in (2, 3):
            return None
        return SCALAR_POWERS.get(float(power), node.target)  # type: ignore[arg-type]  # a number in this overload
    return node.target


def _check(model: Model, node: fx.Node) -> None:
    target = _meaning(node)
    if target is None or target in PASS or target in OPS:
        return
    raise UnsupportedOperationError(
        f"{model.name}: the operation {node.target} of its step has no row in spikescope.dynamics.ops.OPS, so that no "
        "fused kernel can be made of it; the eager loop (backend='torch') runs it. Write the step without it, or add "
        "the row."
    )


def _prologue(values_at: list[fx.Node], fixed: list[fx.Node], used: list[fx.Node]) -> Callable[..., Any]:
    if all(node in values_at for node in used):
        places = [values_at.index(node) for node in used]
        return lambda *values: [values[i] for i in places]
    graph, copies = fx.Graph(), {}
    for node in values_at:
        copies[node] = graph.placeholder(node.name)
    for node in fixed:
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output([copies[node] for node in used])
    graph.eliminate_dead_code()
    return fx.GraphModule({}, graph)
