"""From a network of ours to a NIR graph."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from .. import __version__
from ..base import MemoryModule, StepModule, kind_of
from ..errors import ShapeError, check_choice, check_module, dims
from ..layer import (
    ElementWiseRecurrentContainer,
    LinearRecurrentContainer,
    MultiStepContainer,
    SeqToANNContainer,
    StepModeContainer,
)
from .layers import LAYERS, WITHOUT_EFFECT, flatten_node, layer_to_nir
from .network import NIRNetwork
from .neurons import CLASSES, neuron_to_nir
from .package import Unrepresentable, check_dt, nir_package

__all__ = ["to_nir"]

_ROWS = (SeqToANNContainer, MultiStepContainer, StepModeContainer)
_NEURONS = frozenset(CLASSES.values())
_SUMS = (operator.add, operator.iadd, torch.add)
_RECURRENT = (LinearRecurrentContainer, ElementWiseRecurrentContainer)
_ADVICE = {
    "BatchNorm": "Fuse it first, with functional.fuse_convbn2d or functional.fuse_bn_neurons",
    "MaxPool": "Train with an average pooling instead",
}
_LOOP = object()  # stands for the output of a container that is fed back, until its name is known


def to_nir(net: nn.Module, input_shape: Sequence[int], dt: float = 1e-4, soft_reset: str = "refuse") -> Any:
    r"""The NIR graph (`nir.NIRGraph`) of a network, as it is in eval; the network stays as it is.

    A step of ours is a step of Euler's method for the differential equations of NIR; for a leaky neuron
    $\tau_{NIR} = \tau\,dt$. What NIR has no parameter for is in the metadata of the nodes.

    - `input_shape`: the shape of one sample of one step, without time and batch.
    - `dt`: the seconds that one step stands for.
    - `soft_reset`: `'refuse'`, or `'metadata'` to write neurons with `v_reset=None`, which other programs may take for
      neurons with a hard reset.

    A neuron of NIR spikes above its threshold, ours at it. ValueError, with the name of the module and what to do, for
    what NIR cannot express. Surrogates are not written, nor is dropout.

    >>> net = nn.Sequential(nn.Linear(3, 2), spikescope.neuron.LIFNode(tau=2.0))
    >>> graph = to_nir(net, (3,), dt=1e-3)
    >>> list(graph.nodes), graph.nodes["1"].tau
    (['input', '0', '1', 'output'], array([0.002, 0.002], dtype=float32))
    """
    check_module("to_nir", net)
    check_choice("to_nir", "soft_reset", soft_reset, ("refuse", "metadata"))
    dt = check_dt("to_nir", dt)
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ShapeError(
            f"to_nir: input_shape must be the sizes of one sample of one step, such as (1, 28, 28), but got "
            f"{input_shape!r}."
        )
    nir = nir_package()
    copied = _single_step_copy(net)
    walk = _Walk(dt, soft_reset)
    given = next((p.dtype for p in copied.parameters() if p.is_floating_point()), torch.float32)
    with torch.no_grad():
        y, sources = walk.run(copied, "", torch.zeros(1, *shape, dtype=given), ["input"])
    nodes = {
        "input": nir.Input({"input": np.array(shape)}),
        **walk.nodes,
        "output": nir.Output({"output": np.array(y.shape[1:])}),
    }
    edges = [*walk.edges, *((source, "output") for source in sources)]
    return nir.NIRGraph(nodes, edges, metadata={"dt": dt, "written_by": f"spikescope {__version__}"})


def _single_step_copy(net: nn.Module) -> nn.Module:
    copied = copy.deepcopy(net).cpu().eval()
    for module in copied.modules():
        if isinstance(module, StepModule) and "s" in module.supported_step_mode():
            module.step_mode = "s"
        if isinstance(module, MemoryModule):
            module.reset()
    return copied


class _Whole(nn.Module):
    """A network as a child, so that a single layer can be traced too."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class _Tracer(fx.Tracer):
    """Follows the forward of containers and of the user's modules down to layers and neurons."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = type(m).__module__.startswith("spikescope.") and not isinstance(m, (NIRNetwork, _Whole, *_ROWS))
        return own or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(m, NIRNetwork):
            if m.waiting:
                raise ValueError("a NIRNetwork with a cycle was read from a graph: keep that graph.")
            return m.straight(*args)
        if isinstance(m, _ROWS):
            (x,) = args
            for child in m:
                x = child(x)
            return x
        return super().call_module(m, forward, args, kwargs)


class _Walk:
    """Collects nodes and edges along the forward of a network, with the shapes of one sample."""

    def __init__(self, dt: float, soft_reset: str) -> None:
        self.dt = dt
        self.soft_reset = soft_reset
        self.nodes: dict[str, Any] = {}
        self.edges: list[Any] = []

    def run(self, net: nn.Module, prefix: str, x: Tensor, sources: list[Any]) -> tuple[Tensor, list[Any]]:
        """The output and where it comes from, of `net` on `x`, which comes from `sources`."""
        whole = _Whole(net)
        try:
            graph = _Tracer().trace(whole)
        except Exception as error:  # whatever the forward of a user does with what is no tensor
            raise ValueError(
                f"to_nir cannot follow the forward of {type(net).__name__}: {error} A forward that decides by values "
                "or shapes, or makes sequences, has no graph: give the modules in an nn.Sequential."
            ) from error
        held: dict[fx.Node, tuple[Tensor, list[Any]]] = {}
        for node in graph.nodes:
            if node.op == "output":
                if not isinstance(node.args[0], fx.Node):
                    raise ValueError(f"to_nir takes a network with one output, but {type(net).__name__} gives several.")
                return held[node.args[0]]
            held[node] = self._step(node, whole, prefix, held, (x, sources))
        raise ValueError(f"to_nir: {type(net).__name__} gives nothing.")

    def _step(self, node: fx.Node, whole: nn.Module, prefix: str, held: Any, given: Any) -> tuple[Tensor, list[Any]]:
        if node.op == "placeholder":
            x, sources = given
            return x, sources
        before = [held[arg] for arg in node.args if isinstance(arg, fx.Node)]
        settings = [arg for arg in node.args if not isinstance(arg, fx.Node)]
        if node.op == "call_module" and len(before) == 1 and not node.kwargs:
            path = str(node.target)
            name = ".".join(filter(None, (prefix, path.removeprefix("net").removeprefix(".")))) or "net"
            return self._module(name, whole.get_submodule(path), *before[0])
        if len(before) == 2 and not settings and not node.kwargs and (node.target in _SUMS or node.target == "add"):
            (x, left), (y, right) = before
            if x.shape == y.shape and not set(map(id, left)) & set(map(id, right)):
                return x + y, left + right
        if node.target in (torch.flatten, "flatten") and len(before) == 1:
            return self._flatten(node, before[0], settings)
        raise ValueError(
            f"to_nir: NIR has no node for {node.format_node()}: what is not a layer or a neuron can be a sum of two "
            "different outputs of the same shape, or flatten."
        )

    def _flatten(self, node: fx.Node, before: tuple[Tensor, list[Any]], settings: list[Any]) -> Any:
        x, sources = before
        given = dict(zip(("start_dim", "end_dim"), settings, strict=False)) | node.kwargs
        start, end = given.get("start_dim", 0), given.get("end_dim", -1)
        y = x.flatten(start, end)
        try:
            made = flatten_node(start, end, tuple(x.shape[1:]))
        except Unrepresentable as error:
            raise ValueError(f"to_nir: {error}. Begin at 1.") from error
        return y, self._add(node.name, made, sources)

    def _add(self, name: str, made: Any, sources: list[Any]) -> list[Any]:
        if name in self.nodes or name in ("input", "output"):
            raise ValueError(
                f"to_nir: the name {name} is taken. A module may be used once in a step, and 'input' and 'output' are "
                "the ends of the graph."
            )
        self.nodes[name] = made
        self.edges += [(source, name) for source in sources]
        return [name]

    def _module(self, name: str, module: nn.Module, x: Tensor, sources: list[Any]) -> tuple[Tensor, list[Any]]:
        if kind_of(module) in WITHOUT_EFFECT:
            return x, sources
        if isinstance(module, _RECURRENT):
            return self._recurrent(name, module, x, sources)
        kind = type(module).__name__
        if kind_of(module) not in LAYERS | _NEURONS:
            advice = next((f" {text}." for part, text in _ADVICE.items() if part in kind), "")
            known = ", ".join(sorted({held.__name__ for held in LAYERS | _NEURONS}))
            raise ValueError(f"to_nir: NIR has no node for {name} ({kind}).{advice} There are nodes for {known}.")
        try:
            y = module(x)
        except (RuntimeError, ValueError) as error:
            raise ShapeError(
                f"to_nir: {name} ({kind}) cannot take a sample of {dims(x.shape[1:])}, to which input_shape leads: "
                f"{error}"
            ) from error
        sizes = tuple(x.shape[1:]), tuple(y.shape[1:])
        try:
            if kind_of(module) in _NEURONS:
                made = neuron_to_nir(module, sizes[0], self.dt, self.soft_reset)
            else:
                made = layer_to_nir(module, *sizes, self.dt)
        except Unrepresentable as error:
            raise ValueError(f"to_nir: {name} ({kind}) has no equal in NIR: {error}.") from error
        return y, self._add(name, made, sources)

    def _recurrent(self, name: str, module: Any, x: Tensor, sources: list[Any]) -> tuple[Tensor, list[Any]]:
        """The feedback of a container as edges from the output of what is inside to its input."""
        if isinstance(module, LinearRecurrentContainer):
            size = module.in_features
            into, back = nn.Linear(size, size, module.rc.bias is not None), nn.Linear(module.out_features, size, False)
            into.weight, back.weight = (
                nn.Parameter(part) for part in module.rc.weight.split((size, module.out_features), 1)
            )
            into.bias = module.rc.bias
            x, sources = self._module(f"{name}.input", into, x, sources)
            _, fed = self._module(f"{name}.feedback", back, x.new_zeros(1, module.out_features), [_LOOP])
            y, out = self.run(module.sub_module, f"{name}.sub_module", x, sources + fed)
        elif module.element_wise_function in _SUMS:
            y, out = self.run(module.sub_module, f"{name}.sub_module", x, [*sources, _LOOP])
        else:
            raise ValueError(f"to_nir: {name} joins by {module.element_wise_function}; NIR has sums alone: torch.add.")
        if len(out) != 1 or out[0] in sources:
            raise ValueError(f"to_nir: {name} feeds back a sum of outputs; let its sub_module end with one module.")
        self.edges = [(out[0] if source is _LOOP else source, target) for source, target in self.edges]
        return y, out
