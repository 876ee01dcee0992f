"""A network that runs the graph that it was read from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..base import MemoryModule, StepModule
from ..errors import ShapeError, check_choice, check_floating, check_state, dims
from ..neuron import Neuron, ReadOut
from .layers import Scale as Scale
from .layers import Threshold as Threshold

__all__ = ["NIRNetwork", "Scale", "Threshold"]

Edge = tuple[str, str]


class NIRNetwork(MemoryModule):
    r"""Modules and the edges between them: what comes in at a module is the sum of what its sources gave.

    Along a cycle, the output of the neuron in it waits for one step; before the first step it is zero. Without a cycle
    `step_mode='m'` runs every module once on the whole sequence; with one, it goes step by step.

    - `nodes`: the modules by name; a name becomes that in `self.nodes`, with `_` for a dot.
    - `edges`: pairs of names, from and to; `'input'` and `'output'` are the ends.
    - `shapes`: what a neuron in a cycle gives for one sample, by its name.

    The state is `fed_back`, the outputs that wait. ValueError if a cycle has no neuron.

    >>> node = spikescope.neuron.IFNode(v_threshold=1.0, v_reset=None)
    >>> net = NIRNetwork({"node": node}, [("input", "node"), ("node", "node"), ("node", "output")], {"node": (1,)})
    >>> net.step_mode = "m"
    >>> net(torch.tensor([[[1.0]], [[0.0]], [[0.0]]])).flatten()  # each spike is the input of the next step
    tensor([1., 1., 1.])
    """

    owns_children_step_mode = True
    zero_at_rest = frozenset({"fed_back"})

    fed_back: dict[str, Tensor] | None

    def __init__(
        self,
        nodes: Mapping[str, nn.Module],
        edges: Sequence[Edge],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self._shapes = dict(shapes or {})
        for a, b in edges:
            if a == "output" or b == "input":
                raise ValueError(
                    f"NIRNetwork: the edge {a} -> {b} leads {'from the output' if a == 'output' else 'to the input'}, "
                    "which is an end. Let it begin or end at the node beside that."
                )
        self._keys = {name: _key(name) for name in nodes}
        if len(set(self._keys.values())) < len(self._keys):
            raise ValueError(f"NIRNetwork: two nodes have the same name up to dots: {', '.join(nodes)}.")
        self.nodes = nn.ModuleDict({self._keys[name]: module for name, module in nodes.items()})
        self.waiting = frozenset(_waiting(nodes, edges))
        self._order = _ordered([*nodes, "output"], edges, self.waiting)
        self._sources = {name: [edge for edge in edges if edge[1] == name] for name in self._order}
        for source, target in self.waiting:
            if source not in self._shapes:
                raise ValueError(f"NIRNetwork: the shape of {source}, whose output waits for {target}, is not given.")
        self.register_memory("fed_back", None)
        self.step_mode = step_mode

    @property
    def step_mode(self) -> str:
        """`'s'` for single steps, `'m'` for sequences; the modules inside follow."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        check_choice("NIRNetwork", "step_mode", value, self.supported_step_modes)
        self._step_mode = value
        for module in self.nodes.values():
            if isinstance(module, StepModule) and not self.waiting:
                module.step_mode = value

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating("NIRNetwork", x)
        before = self.fed_back
        if before is None:
            before = {name: x.new_zeros(len(x), *self._shapes[name]) for name, _ in self.waiting}
        for name, given in before.items():  # a batch of one would broadcast
            check_state("NIRNetwork", torch.Size((len(x), *given.shape[1:])), {f"of {name}": given})
        values = self._run(x, {name: given.to(x.dtype) for name, given in before.items()})
        self.fed_back = {name: values[name] for name, _ in self.waiting}
        return values["output"]

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        check_floating("NIRNetwork", x_seq)
        if not self.waiting:
            return self.straight(x_seq)
        out: Tensor = super().multi_step_forward(x_seq)
        read_out = any(isinstance(self._module(source), ReadOut) for source, _ in self._sources["output"])
        return out[-1] if read_out else out

    def straight(self, x: Tensor) -> Tensor:
        """The output of a graph without a cycle: every module once, on a step or on a sequence."""
        return self._run(x, {})["output"]

    def _module(self, name: str) -> nn.Module | None:
        return self.nodes[self._keys[name]] if name in self._keys else None

    def _run(self, x: Tensor, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        values = {"input": x}
        for name in self._order:
            given = [(before if edge in self.waiting else values)[edge[0]] for edge in self._sources[name]]
            total = given[0]
            for edge, other in zip(self._sources[name][1:], given[1:], strict=True):
                if isinstance(other, Tensor) and other.shape != total.shape:  # not where `to_nir` follows it
                    raise ShapeError(
                        f"NIRNetwork: {name} takes the sum of its sources, which must have one shape, but "
                        f"{self._sources[name][0][0]} gives {dims(total.shape)} and {edge[0]} {dims(other.shape)}."
                    )
                total = total + other
            module = self._module(name)
            values[name] = total if module is None else module(total)
        return values

    def extra_repr(self) -> str:
        waiting = ", ".join(f"{source} -> {target}" for source, target in sorted(self.waiting))
        return f"{super().extra_repr()}{f', one step later: {waiting}' if waiting else ''}"


def _key(name: str) -> str:
    """A name that a ModuleDict takes."""
    key = name.replace(".", "_")
    return f"{key}_" if hasattr(nn.ModuleDict, key) or key in nn.ModuleDict().__dict__ else key


def _back_edges(edges: Sequence[Edge]) -> Iterator[Edge]:
    """The edges that lead back to where a walk from the input is under way."""
    done: set[str] = set()
    path: list[str] = ["input"]
    open_edges = {"input": [edge for edge in edges if edge[0] == "input"]}
    while path:
        left = open_edges[path[-1]]
        if not left:
            done.add(path.pop())
            continue
        edge = left.pop(0)
        if edge[1] in path:
            yield edge
        elif edge[1] not in done:
            path.append(edge[1])
            open_edges[edge[1]] = [other for other in edges if other[0] == edge[1]]


def _waiting(nodes: Mapping[str, nn.Module], edges: Sequence[Edge]) -> Iterator[Edge]:
    """In each cycle the edge behind a neuron: the spikes wait, not what a layer makes of them."""
    for back in _back_edges(edges):
        edge = back
        while not isinstance(nodes[edge[0]], Neuron):
            before = [other for other in edges if other[1] == edge[0]]
            after = [other for other in edges if other[0] == edge[0]]
            if len(before) != 1 or len(after) != 1 or before[0] == back or before[0][0] not in nodes:
                raise ValueError(
                    f"NIRNetwork: the cycle that {back[0]} -> {back[1]} closes has no neuron right before the layers "
                    "that lead back, whose output could wait for a step."
                )
            edge = before[0]
        yield edge


def _ordered(names: Sequence[str], edges: Sequence[Edge], waiting: Collection[Edge]) -> list[str]:
    """The names so that every source comes before its targets. All must be reached from the input."""
    order: list[str] = ["input"]
    left = list(names)
    while left:
        sources = {name: [edge for edge in edges if edge[1] == name] for name in left}
        ready = [
            name
            for name, found in sources.items()
            if found and all(edge[0] in order or edge in waiting for edge in found)
        ]
        if not ready:
            raise ValueError(f"NIRNetwork: nothing leads from the input to {', '.join(left)}.")
        order += ready
        left = [name for name in left if name not in ready]
    return order[1:]
