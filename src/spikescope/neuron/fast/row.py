"""Calling the modules of a row without the overhead of module calls, for steps so small that it takes most of the time.

A row is an `nn.Sequential`, or one inside another, of neurons and of modules of PyTorch's own or like them. What holds
for all of a step is asked once, before it: that nobody has put a hook on any of them, that no tracer, transform, mode
or checkpoint is at work, that the row and the fields of its neurons are as they were. Then a linear layer is its
function of its parameters as they are now, and a neuron is its kernel, where input and state are of the form that it
ran on last. Everything else is called as a module, and where something does not hold, the network is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import is_, itemgetter
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ...hooks import has_hooks_of_all
from ...internals import checkpoint_at_work, function_modes, is_ordinary, is_patched, is_undisturbed
from ...sockets import is_bare
from ..core import PointwiseNeuron
from .shortcut import Again, short_way

__all__ = ["Row", "known_to_rows"]

_OWN = frozenset(("forward", "weight", "bias", "_call_impl", "_slow_forward", "_wrapped_call_impl"))
"""What an instance of PyTorch's may have in the place of what its class has or of a parameter."""

_hooks = itemgetter("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

Fact = tuple[dict[str, Any], str, object]
"""Where something stands that a step depends on, its name, and what it is."""


def _methods(cls: type[nn.Module]) -> tuple[object, ...]:
    return cls.__call__, cls.forward


_linear: dict[type[nn.Module], tuple[object, ...]] = {nn.Linear: _methods(nn.Linear)}
"""The linear layers, of single steps, and how they are called as it was when they were made."""

_modules: set[str] = set()
"""The modules of the library with layers in which no code of others runs, as in those of PyTorch."""


def known_to_rows(module: str, *linear: type[nn.Module]) -> None:
    """Let rows hold the layers of a module of the library, and take those that are linear for PyTorch's function."""
    _modules.add(module)
    _linear.update((cls, _methods(cls)) for cls in linear)


def _written() -> tuple[object, ...]:
    """The methods through which all modules of a row are called, as they are now."""
    return nn.Module._call_impl, nn.Sequential.__call__, nn.Sequential.forward, PointwiseNeuron.__call__


_as_written = _written()


class Place:
    """A neuron of a row, and how its last call may be run again."""

    def __init__(self, neuron: Any) -> None:
        self.neuron, self.short, self.held = neuron, short_way(neuron), neuron.__dict__
        self.last: tuple[Again, list[Tensor]] | None = None  # with the state that it left; another thread may be at it

    def facts(self) -> Iterator[Fact]:
        """What is asked of the neuron before every step, besides what is asked of all modules."""
        short, held = self.short, self.held
        yield from ((held, name, value) for name, value in zip(short.names, short.values, strict=True))
        for name, part, names, values in short.parts:
            yield held["_modules"], name, part
            yield from ((part.__dict__, own, value) for own, value in zip(names, values, strict=True))
        yield from ((held, name, held.get(name)) for name in ("_live_taps", "_traced"))

    def __call__(self, x: Any) -> Any:
        last, held = self.last, self.held
        if last is None or type(x) is not Tensor or held.get("_norm"):
            return self._anew(x)
        again, state = last
        dtype, shape, strides = again.x
        if x.dtype is not dtype or x.shape != shape or x.stride() != strides or not x.is_cpu:
            return self._anew(x)
        memories = held["_memories"]
        for name, entry, (dtype, shape, strides) in zip(again.names, state, again.state, strict=True):
            if (
                memories.get(name) is not entry
                or entry.dtype is not dtype  # the same tensor may have been given another memory, or be turned
                or entry.shape != shape
                or entry.stride() != strides
                or entry.is_neg()
            ):
                return self._anew(x)
        y, *state = again.run(x, state, None)
        self.last = again, state
        memories.update(zip(again.names, state, strict=True))
        if held["_assigned"]:
            held["_assigned"].clear()
        return y

    def _anew(self, x: Any) -> Any:
        """The output for an input or a state of another form than before."""
        found = self.last = None
        if self.short.is_open and not self.held.get("_norm") and type(x) is Tensor and is_ordinary(x):
            found = self.short.first(self.neuron, x)
        if found is None:
            return self.neuron(x)
        y, self.last = found
        return y


class Row:
    """The modules of a network in the order of their calls, as they are now."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.within: list[tuple[dict[str, nn.Module | None], list[nn.Module]]] = []
        self.steps: list[tuple[dict[str, Any] | None, Callable[[Any], Any]]] = []
        self.modules: list[nn.Module] = []  # in the row or around it
        self.plain: list[dict[str, Any]] = []  # what the instances have of those whose call is not made
        places: list[Place] = []
        self._add(net, places)
        linear = {type(module) for module in self.modules} & _linear.keys()
        self.is_known = all(map(_is_known, self.modules)) and bool(places or linear)
        self.linear = [(cls, methods) for cls, methods in _linear.items() if cls in linear]
        self.shorts = [*{(place.short.cls, place.short.found): place.short for place in places}.values()]
        self.modules += [part for place in places for part in place.short.modules]
        self.types = [*map(type, self.modules)]  # a parametrisation changes that of a module
        self.held = [module.__dict__ for module in self.modules]
        facts: list[Fact] = [fact for place in places for fact in place.facts()]
        facts += [(held, "_compiled_call_impl", None) for held in self.held]
        facts += [(held, "_step_mode", "s") for held in self.plain if "_step_mode" in held]
        self.holders, self.names, self.values = [*zip(*facts, strict=True)]

    def _add(self, module: nn.Module, places: list[Place]) -> None:
        held = module.__dict__
        self.modules.append(module)
        if type(module) is nn.Sequential:
            children = [*module._modules.values()]
            self.within.append((held["_modules"], children))
            self.plain.append(held)
            for child in children:
                self._add(child, places)
        elif type(module) in _linear and held.get("_step_mode", "s") == "s":
            self.plain.append(held)
            self.steps.append((held["_parameters"], module))
        elif isinstance(module, PointwiseNeuron):
            places.append(Place(module))
            self.steps.append((None, places[-1]))
        else:
            self.steps.append((None, module))

    def holds(self, net: nn.Module) -> bool:
        """Whether these are the modules that a call of `net` would come to, and all that is known of them holds."""
        return (
            self.net is net
            and [*map(type, self.modules)] == self.types
            and all([*modules.values()] == children for modules, children in self.within)
            and all(map(is_, map(dict.get, self.holders, self.names), self.values))
            and all(short.methods(short.cls) == short.found for short in self.shorts)
        )

    def is_open_to(self, x: Any, learning: bool) -> bool:
        """Whether a step of this input is nothing but what is written in the modules.

        `learning`: whether there were gradients before the step, which is without.
        """
        if not self.is_known or type(x) is not Tensor or not is_undisturbed() or function_modes() or is_patched():
            return False
        if not (is_ordinary(x) and x.ndim) or has_hooks_of_all() or checkpoint_at_work(not learning) is not None:
            return False
        if _written() != _as_written or any(_methods(cls) != methods for cls, methods in self.linear):
            return False
        for module, held in zip(self.modules, self.held, strict=True):
            if any(_hooks(held)) and not is_bare(module):
                return False
        return all(map(_OWN.isdisjoint, self.plain))

    def step(self, x: Tensor) -> Tensor:
        """The output for an input that it is open to, without gradients."""
        for parameters, call in self.steps:
            if parameters is not None and "weight" in parameters and "bias" in parameters:
                x = functional.linear(x, parameters["weight"], parameters["bias"])
            else:
                x = call(x)
        return x


def _is_known(module: nn.Module) -> bool:
    """Whether no code of others runs in a call of this module, nor does it ask who calls it."""
    cls, made_in = type(module), type(module).__module__
    if isinstance(module, PointwiseNeuron):
        return made_in.startswith("spikescope.")
    if cls is nn.Sequential:
        return True
    return (made_in in _modules or made_in.startswith("torch.nn.modules.")) and not module._modules
