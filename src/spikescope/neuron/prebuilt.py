"""Kernels compiled beforehand, for machines without a compiler; and which ones neurons have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..dynamics import prepare, run_sequence, support_tap
from ..surrogate import ATan
from ..surrogate import registry as surrogates
from ..toolchain.compiler import ordered
from ..toolchain.declared import build_declared
from .base import registry
from .core import PointwiseNeuron
from .fast.shortcut import TAPS as SHORT_TAPS
from .parallel import PSN, Threshold

__all__ = ["Prebuilt", "Wanted", "examples", "fused_neurons", "of_neurons", "of_parts", "prebuild"]

_SUPPORTS = support_tap(1.0, -0.5, 0.5), support_tap(1.0, 0.0, 0.5)  # for any numbers: they are arguments of a kernel

TAPS: tuple[tuple[str, ...], ...] = (
    (),
    ("count",),
    ("packed",),
    ("count", "packed"),
    ("h",),
    _SUPPORTS[:1],
    ("count", *_SUPPORTS),
)
"""What monitors ask of a kernel most: nothing, rates, spikes, both, potentials, and what health is judged by."""

PARALLEL = "parallel"
"""The part whose kernels depend on the surrogate."""

ODD = 0.3
"""Added to a time constant, so that dividing by it is no product: there are two kernels of a neuron with one."""


class Wanted(NamedTuple):
    """Something of which kernels are to be compiled: its name, and what asks for all of them."""

    name: str
    ask: Callable[[], None]


class Prebuilt(NamedTuple):
    """The kernels of something, by their names."""

    of: str
    kernels: tuple[str, ...]


def fused_neurons() -> list[str]:
    """The names of the neurons of which kernels are made.

    >>> "LIFNode" in fused_neurons(), "PSN" in fused_neurons()
    (True, False)
    """
    return sorted(name for name, cls in registry.items() if issubclass(cls, PointwiseNeuron))


def prebuild(folder: Path, level: str, wanted: Iterable[Wanted]) -> Iterator[Prebuilt]:
    """Compile all kernels that are wanted into `folder`, and say so of one thing after the other.

    - `level`: of processors, one of `toolchain.carried.LEVELS` that this processor reaches.
    """
    with ordered(folder, level) as names:
        for each in wanted:
            before = len(names)
            each.ask()
            yield Prebuilt(each.name, tuple(names[before:]))


def of_neurons(
    neurons: Collection[str], dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]
) -> Iterator[Wanted]:
    """The kernels of neurons.

    - `dtypes`: of the inputs.
    - `surrogate_functions`: names; none are those that the neurons have by default.

    Of each neuron there are those forwards and backwards, with hard and with soft reset, with the reset in the graph
    and without, plain and with the taps that monitors ask for most.
    """
    for neuron in neurons:
        yield Wanted(neuron, partial(_ask, registry[neuron], dtypes, surrogate_functions))


def of_parts(
    parts: Collection[str], dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]
) -> Iterator[Wanted]:
    """The kernels that were declared as parts, for what `of_neurons` takes."""
    for part in parts:
        yield Wanted(part, partial(_ask_part, part, dtypes, surrogate_functions))


def _ask_part(part: str, dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]) -> None:
    if part != PARALLEL:
        build_declared(part, dtypes)
        return
    sums = dict.fromkeys(torch.promote_types(dtype, torch.float32) for dtype in dtypes)
    build_declared(part, sums)
    for surrogate in examples(surrogate_functions) or [ATan()]:
        for dtype in sums:
            _run_parallel(surrogate, dtype)


def _run_parallel(surrogate: Any, dtype: torch.dtype) -> None:
    """Ask for the kernels of parallel neurons: of their gradients, and of the spikes where no kernel takes the sums."""
    x = torch.ones(2, 3, dtype=dtype, device="cpu", requires_grad=True)
    PSN(T=2, surrogate_function=surrogate).to(x)(x).sum().backward()
    threshold = Threshold(surrogate_function=surrogate)
    definition = threshold._definition(threshold.params())
    run_sequence("cpp", definition, Threshold.State(), x, False).output.sum().backward()


def _ask(cls: Any, dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]) -> None:
    for node in _variants(cls, surrogate_functions):
        for dtype in dtypes:
            _run(node, dtype)


def examples(surrogate_functions: Collection[str]) -> list[Any]:
    """A surrogate function of each of these names.

    >>> examples(["ATan"])
    [ATan(alpha=2.0, spiking=True)]
    """
    return [surrogates[name](**surrogates[name].example) for name in surrogate_functions]


def _variants(cls: Any, surrogate_functions: Collection[str]) -> Iterator[Any]:
    """Nodes of one class, one for each kernel that differs."""
    named = surrogate_functions if "surrogate_function" in cls.fields else ()
    for part in [{"surrogate_function": held} for held in examples(named)] or [{}]:
        for soft in (False, True) if "v_reset" in cls.fields else (False,):
            for detach in (False, True) if "detach_reset" in cls.fields else (False,):
                options: dict[str, Any] = {"v_reset": None} if soft else {}
                options |= {"detach_reset": True} if detach else {}
                with suppress(TypeError, ValueError):  # some neurons have one kind of reset alone
                    node = cls(**cls.example | part | options, backend="cpp")
                    yield node
                    if _shift(node):
                        yield node


def _shift(node: Any) -> bool:
    """Give the time constants of a node other values; whether it has any."""
    found = [name for name in type(node).dynamic if name.startswith("tau") and isinstance(getattr(node, name), float)]
    for name in found:
        setattr(node, name, getattr(node, name) + ODD)
    return bool(found)


def _run(node: Any, dtype: torch.dtype) -> None:
    """Ask for all kernels of a node: a single step has one of its own backwards."""
    for steps, taps in ((1, ()), *((2, taps) for taps in TAPS)):
        x = torch.ones(steps, 3, dtype=dtype, device="cpu", requires_grad=True)
        p = node.params()
        out = run_sequence("cpp", node._definition(p), node._state(p, x, x.shape[1:]), x, False, taps)
        if not taps and out.output.requires_grad:
            out.output.sum().backward()
        if node._gained() and set(taps) <= SHORT_TAPS and dtype.itemsize >= 4:
            _run_gained(node, x, taps)


def _run_gained(node: Any, x: Tensor, taps: tuple[str, ...]) -> None:
    """Ask for the kernels that multiply each step of the input by a number."""
    p = node.params()
    definition, state = node._definition(p), node._state(p, x, x.shape[1:])
    made = prepare("cpp", definition, state, x, False, taps, gained=True)
    assert made is not None
    y, *_ = made(x, (*definition.tensors, torch.ones(len(x), dtype=x.dtype, device="cpu")))
    if not taps:
        y.sum().backward()
