"""From a NIR graph to a network of ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from ..errors import check_choice
from ..neuron import ReadOut
from ..surrogate import Sigmoid, Surrogate
from .layers import Threshold, layer_from_nir
from .network import NIRNetwork
from .neurons import KEY, Reading, neuron_from_nir
from .package import check_dt, field, nir_package, plain
from .storage import read_nir

__all__ = ["from_nir"]

_MOST_STEPS = 100  # of an input of 1 until a spike, beyond which a gain is taken for a mistake
_NEURONS = ("IF", "LIF", "CubaLIF", "I", "LI")


def from_nir(
    graph: Any,
    dt: float | None = None,
    reset: str = "hard",
    surrogate_function: Callable[[], Surrogate] = Sigmoid,
    step_mode: str = "s",
) -> NIRNetwork:
    r"""The network for a NIR graph, or for the path of a `.nir` file.

    The differential equations are taken in steps of Euler's method, $\tau = \tau_{NIR}/dt$. A graph that `to_nir` made
    gives the same neurons with the same numbers, unless its arrays were changed since.

    - `dt`: the seconds of one step; None for what `to_nir` wrote into the graph.
    - `reset`: `'hard'`, or `'soft'` for a graph of a program whose neurons subtract the threshold, which NIR cannot
      say. Neurons that `to_nir` wrote know their own.
    - `surrogate_function`: what makes the surrogate of each neuron, such as `surrogate.ATan`.

    ValueError, with the name of the node, for what cannot be run here.

    >>> net = nn.Sequential(nn.Linear(3, 2), spikescope.neuron.LIFNode(tau=2.5))
    >>> back = from_nir(spikescope.exchange.to_nir(net, (3,)))
    >>> back.nodes["1"].tau
    2.5
    >>> x = torch.randn(5, 3)
    >>> torch.equal(back(x), net(x))
    True
    """
    check_choice("from_nir", "reset", reset, ("hard", "soft"))
    if isinstance(graph, (str, os.PathLike)):
        graph = read_nir(graph)
    if not isinstance(graph, nir_package().NIRGraph):
        raise TypeError(f"from_nir takes a nir.NIRGraph or the path of a .nir file, but got {type(graph).__name__}.")
    reading = Reading(_step_of(graph, dt), reset, surrogate_function)
    nodes, edges = _flat(graph)
    if lost := [name for edge in edges for name in edge if name not in nodes]:
        raise ValueError(
            f"from_nir: an edge of the graph names the node {lost[0]!r}, which is not there; there is "
            f"{', '.join(map(repr, list(nodes)[:8]))}."
        )
    modules = {name: made for name, node in nodes.items() if (made := _module(name, node, reading)) is not None}
    edges = _ends_named(nodes, edges)
    shapes = {name: np.shape(nodes[name].r) for name in modules if type(nodes[name]).__name__ in _NEURONS}
    _check_read_outs(modules, edges)
    return NIRNetwork(modules, edges, shapes, step_mode)


def _step_of(graph: Any, dt: float | None) -> float:
    if dt is None:
        dt = (graph.metadata or {}).get("dt")
        if dt is None:
            raise ValueError(
                "from_nir: this graph does not say how long a step is; give dt in seconds, such as dt=1e-4."
            )
    return check_dt("from_nir", dt.item() if isinstance(dt, np.ndarray) else dt)


def _flat(graph: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The nodes and edges of a graph with those of its subgraphs, whose ends are left out."""
    nodes: dict[str, Any] = {}
    edges = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[name] = node
            continue
        inner, inner_edges = _flat(node)
        ends = {
            kind: [key for key, held in inner.items() if type(held).__name__ == kind] for kind in ("Input", "Output")
        }
        if len(ends["Input"]) != 1 or len(ends["Output"]) != 1:
            raise ValueError(f"from_nir: the subgraph {name} must have one input and one output.")
        first, last = (f"{name}.{ends[kind][0]}" for kind in ("Input", "Output"))
        nodes |= {f"{name}.{key}": held for key, held in inner.items() if f"{name}.{key}" not in (first, last)}
        edges = [(last if a == name else a, first if b == name else b) for a, b in edges]
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner_edges]
        edges = _without(_without(edges, first), last)
    return nodes, edges


def _without(edges: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """The edges without a node that passes on what it gets: its sources lead straight to its targets."""
    sources, targets = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
    return [*(edge for edge in edges if name not in edge), *((a, b) for a in sources for b in targets)]


def _module(name: str, node: Any, reading: Reading) -> nn.Module | None:
    """The module for a node; None for the ends of the graph."""
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return None
    try:
        if kind in _NEURONS:
            _warn_of_small_gain(name, node, reading)
            return neuron_from_nir(node, reading)
        if kind == "Threshold":
            return Threshold(field(plain(node.threshold)), reading.surrogate_function())
        made = layer_from_nir(node, reading.dt)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"from_nir: the node {name} ({kind}) cannot be run with dt={reading.dt:g}: {error}") from error
    if made is None:
        raise ValueError(f"from_nir: there is no module for the node {name} ({kind}).")
    return made


def _warn_of_small_gain(name: str, node: Any, reading: Reading) -> None:
    """Say so where an integrator of another program hardly sees its input: programs that count in steps write r = 1."""
    kind = type(node).__name__
    if kind not in ("IF", "I") or KEY in (node.metadata or {}):
        return
    gain = np.abs(np.asarray(node.r, dtype=np.float64)) * reading.dt
    height = np.abs(np.asarray(node.v_threshold, dtype=np.float64)) if kind == "IF" else 1.0
    share = np.max(gain / np.maximum(height, np.finfo(np.float64).tiny), initial=0.0)
    if 0 < share < 1 / _MOST_STEPS:
        goal = "its threshold" if kind == "IF" else "the potential 1"
        warnings.warn(
            f"from_nir: the node {name} ({kind}) multiplies its input by r * dt, at most {gain.max():.3g}, so that an "
            f"input of 1 takes {1 / share:.0f} steps to {goal}. Programs that count time in steps write r = 1 for the "
            f"whole input. If this graph is of one of them, put it in seconds before it is read: "
            f"graph.nodes[{name!r}].r /= {reading.dt:g}",
            stacklevel=2,
        )


def _ends_named(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges with the names that a `NIRNetwork` has for its ends."""
    names = {}
    for kind, end in (("Input", "input"), ("Output", "output")):
        found = [name for name, node in nodes.items() if type(node).__name__ == kind]
        if len(found) != 1:
            raise ValueError(f"from_nir takes a graph with one {end}, but this one has {len(found)}.")
        if end in nodes and end != found[0]:
            raise ValueError(
                f"from_nir: the node {end} is not the {end} of this graph, which is {found[0]}; rename it."
            )
        names[found[0]] = end
    return [(names.get(a, a), names.get(b, b)) for a, b in edges]


def _check_read_outs(modules: dict[str, nn.Module], edges: list[tuple[str, str]]) -> None:
    for name, target in edges:
        if isinstance(modules.get(name), ReadOut) and target != "output":
            raise ValueError(
                f"from_nir: {name} gives its membrane potential to {target}; here only the last node can be an "
                "integrator that does not spike."
            )
