"""A network as a graph of named operations, each with its role in the conversion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base import StepModule
from ..errors import check_module
from ..functional import set_step_mode
from .operations import Refusal, Role, argument, function_name, role_of

__all__ = ["Plan", "Watch", "as_batches", "followed", "inputs_of", "plan"]


class _Tracer(fx.Tracer):
    """Follows a network through all modules but those of PyTorch and of this library, and notes the caller of each."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = [""]
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StepModule) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.inside.append(self.path_of_module(m))
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.inside[-1] if self.failed is None else self.failed
            raise
        finally:
            self.inside.pop()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["inside"] = self.inside[-1]
        return node


class Plan:
    """A copy of a network in eval, as a graph, with the role and the name of every node that depends on the input.

    - `net`: the GraphModule. `roles`: node to role. `names`: node to the path of the module that it is or becomes.
    """

    def __init__(self, net: fx.GraphModule, owner: str) -> None:
        self.net = net
        self.owner = owner
        self.roles: dict[fx.Node, Role] = {}
        self.names: dict[fx.Node, str] = {}
        self._taken = {name for name, _ in net.named_modules()}
        self._called: set[str] = set()
        self._assign()

    def _assign(self) -> None:
        varying: set[fx.Node] = set()
        refusals: dict[fx.Node, str] = {}
        for node in self.net.graph.nodes:
            if node.op == "placeholder":
                varying.update(() if node.args else (node,))  # with a default it is an option
            elif not varying.isdisjoint(node.all_input_nodes):
                self.names[node] = self._name(node)
                try:
                    self.roles[node] = self._role(node, varying)
                except Refusal as refusal:
                    if not self._takes_part_of(refusals, node):
                        refusals[node] = f"  {self.label(node)}: {refusal}."
                if node not in self.roles or self.roles[node].varies:
                    varying.add(node)  # what follows a refused node is judged all the same
        self.varying = varying
        if refusals:
            nodes = "1 node" if len(refusals) == 1 else f"{len(refusals)} nodes"
            raise ValueError(
                f"Converter: {nodes} of {self.owner} cannot be converted to spikes.\n" + "\n".join(refusals.values())
            )

    def _role(self, node: fx.Node, varying: Collection[fx.Node]) -> Role:
        if _works_in_place(node, self.net) and not node.users:
            raise Refusal("it changes a part of a tensor in place; let it give a tensor of its own, and use that")
        return role_of(node, self.net, varying)

    def _takes_part_of(self, refused: Collection[fx.Node], node: fx.Node) -> bool:
        """Whether a node is an item of the several outputs of one that was refused already."""
        return node.op == "call_function" and function_name(node) == "getitem" and node.args[0] in refused

    def _name(self, node: fx.Node) -> str:
        """The path of a module at its first call; else a path that is free, beside the module that calls."""
        if node.op == "call_module" and node.target not in self._called:
            self._called.add(str(node.target))
            return str(node.target)
        inside = "" if node.op == "call_module" else node.meta["inside"]
        wanted = str(node.target) if node.op == "call_module" else function_name(node)
        path = f"{inside}.{wanted}" if inside else wanted
        number, free = 0, path
        while free in self._taken or hasattr(fx.GraphModule, free.rpartition(".")[2]):
            number += 1
            free = f"{path}_{number}"
        self._taken.add(free)
        return free

    def label(self, node: fx.Node) -> str:
        """A node as a message names it."""
        if node.op == "call_module":
            return f"{node.target} ({type(self.net.get_submodule(str(node.target))).__name__})"
        return f"{node.name} (the function {function_name(node)}, called in {node.meta['inside'] or 'the network'})"

    def of(self, kind: str) -> list[fx.Node]:
        """The nodes with a role of this kind, in the order in which they run."""
        return [node for node, role in self.roles.items() if role.kind == kind]


def plan(ann: nn.Module) -> Plan:
    """The graph of a network and what becomes of each node. ValueError, with the node, if it cannot be converted.

    >>> held = plan(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    >>> [(held.names[node], held.roles[node].kind) for node in held.roles]
    [('0', 'module'), ('1', 'neuron'), ('output', 'same')]
    """
    return Plan(followed(ann), type(ann).__name__)


def followed(ann: nn.Module) -> fx.GraphModule:
    """A copy of a network, in eval and `step_mode='s'`, as a graph. ValueError if it has no fixed one."""
    check_module("Converter", ann)
    net = copy.deepcopy(ann).eval()
    set_step_mode(net, "s")
    tracer = _Tracer()
    try:
        graph = tracer.trace(net)
    except Exception as error:
        where = type(ann).__name__ + (f", in the module {tracer.failed}" if tracer.failed else "")
        raise ValueError(
            f"Converter cannot follow the forward of {where}: {error}\nIt is run once without values: an if, a loop or "
            "a number of Python that depends on the values of a tensor has no fixed graph. Move it out of the network."
        ) from error
    _read_what_was_changed(graph, net)
    return fx.GraphModule(net, graph, type(ann).__name__)


def _read_what_was_changed(graph: fx.Graph, net: nn.Module) -> None:
    """Let all that comes after an operation in place read its output, since in its place stands one that is not."""
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        if node.all_input_nodes and _works_in_place(node, net):
            later = set(nodes[place + 1 :])
            node.all_input_nodes[0].replace_all_uses_with(node, delete_user_cb=later.__contains__)


_IN_PLACE = {"relu": 1, "relu6": 1, "hardtanh": 3}  # where `inplace` stands among the arguments


def _works_in_place(node: fx.Node, root: nn.Module) -> bool:
    """Whether an operation changes its first input instead of making a tensor of its own.

    >>> graph = fx.symbolic_trace(lambda x: x.relu_() + torch.relu(x) + x.relu_()).graph
    >>> [node.name for node in graph.nodes if _works_in_place(node, nn.Module())]
    ['relu_', 'relu__1']
    """
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op not in ("call_function", "call_method") or name.endswith("__"):
        return False
    return name.endswith("_") or bool(argument(node, _IN_PLACE.get(name, len(node.args)), "inplace", False))


class Watch(fx.Interpreter):
    """Runs a graph and hands the activations to `take(name, activation)` on the way."""

    def __init__(self, held: Plan, take: Callable[[str, Tensor], Any]) -> None:
        super().__init__(held.net)
        self.extra_traceback = False  # an error is told with the name of the node by whoever takes
        self._watched = {node: held.names[node] for node in held.of("neuron")}
        self._take = take

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, whose number of axes it notes."""
        out = super().run_node(n)
        n.meta["axes"] = out.ndim if isinstance(out, Tensor) else None
        if n in self._watched:
            self._take(self._watched[n], out)
        return out


def as_batches(owner: str, data: Any) -> Iterable[Any]:
    """Batches, or one batch that came as a tensor."""
    if isinstance(data, Tensor):
        return (data,)
    if isinstance(data, nn.Module):
        raise TypeError(
            f"{owner} takes batches of data, but got the network {type(data).__name__}: "
            f"{owner}(batches)(net) converts it."
        )
    if not isinstance(data, Iterable):
        raise TypeError(f"{owner} takes batches, such as a DataLoader or a list, but got {type(data).__name__}.")
    return data


def inputs_of(owner: str, batch: Any, count: int) -> tuple[Tensor, ...]:
    """The `count` inputs of a network from a batch: a tensor, or a tuple or list that begins with them."""
    given = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(given, (tuple, list)) or not all(isinstance(x, Tensor) for x in given[:count]):
        raise TypeError(
            f"{owner}: a batch must be a tensor, or a tuple or list that begins with the inputs of the network, but "
            f"got {type(batch).__name__}."
        )
    if len(given) < count:
        raise ValueError(f"{owner}: the network takes {count} inputs, but a batch has {len(given)} tensors.")
    return tuple(given[:count])


def required(graph: fx.Graph) -> int:
    """How many inputs a graph needs: those without a default."""
    return sum(node.op == "placeholder" and not node.args for node in graph.nodes)


def on_device(inputs: Iterable[Tensor], net: nn.Module) -> Iterator[Tensor]:
    """The inputs where the parameters of the network are."""
    place = next((held.device for held in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    return (x.to(place) for x in inputs)
