"""A whole network at once: reset, detach, step mode, backend, and its state as a value."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..base import MemoryModule, StepModule, backends_of
from ..errors import StateError, check_choice, check_module, did_you_mean
from ..neuron import registry

__all__ = ["NetworkState", "detach_net", "get_state", "reset_net", "set_backend", "set_state", "set_step_mode"]

logger = logging.getLogger("spikescope")

_told_of: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes of which `reset_net` has logged that they are foreign: it is called at every batch."""

_BACKENDS_ELSEWHERE = {
    "inductor": "torch.compile(net) is what that is here.",
    "cupy": "The kernels on a GPU are those of 'auto' or 'triton' here.",
    "lava": "spikescope.exchange writes networks that Lava can read.",
}
"""Of the names that SpikingJelly has and no neuron here: what there is instead."""


def has_own(module: nn.Module, name: str) -> bool:
    """Whether the module itself has this attribute or method. A child of this name, or one passed through, is none."""
    if hasattr(type(module), name):  # asked first: where compiled code has read `vars` of a neuron, it loses its taps
        return True
    return name in vars(module)


def reset_net(net: nn.Module) -> None:
    """Call `reset()` on every module of `net` that has one: the next call starts from rest.

    A module that has a `reset()` without being a `MemoryModule` is reset too, with one logged warning for its class.

    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> _ = net(torch.tensor([0.25])), net(torch.tensor([0.5]))
    >>> net[0].v
    tensor([0.7500])
    >>> reset_net(net)
    >>> net[0].v
    0.0
    """
    check_module("reset_net", net)

    def reset(path: str, module: Any) -> None:
        if not isinstance(module, MemoryModule) and type(module) not in _told_of:
            _told_of.add(type(module))
            logger.warning("reset_net resets %s, which has a reset() but is not a MemoryModule.", label(path, module))
        module.reset()

    _each_once(net, "reset", reset)


class _Running(threading.local):
    """For each method that a thread is calling all over a network, the modules that have had their call."""

    def __init__(self) -> None:
        self.done: dict[str, set[nn.Module]] = {}


_running = _Running()


def _each_once(net: nn.Module, method: str, call: Callable[[str, Any], None]) -> None:
    """`call` with every module of `net` that has `method`, and its path.

    A module may call for all of its network in that very method, as `def reset(self): reset_net(self)`: it is then
    not called again, and what is inside has one call.
    """
    outermost = method not in _running.done
    done = _running.done.setdefault(method, set())
    try:
        for path, module in net.named_modules():
            if has_own(module, method) and module not in done:
                done.add(module)
                call(path, module)
    finally:
        if outermost:
            del _running.done[method]


def detach_net(net: nn.Module) -> None:
    """Call `detach()` on every module of `net` that has one: the gradient stops at the present state.

    Between two stretches of a long sequence this is truncated backpropagation through time. A module that has a
    `detach()` without being a `MemoryModule` is detached too, with a logged warning.

    >>> net = nn.Sequential(nn.Linear(1, 1), spikescope.neuron.IFNode())
    >>> _ = net(torch.ones(2, 1))
    >>> detach_net(net)
    >>> net[1].v.requires_grad
    False
    """
    check_module("detach_net", net)
    done = _running.done.get("detach", set())
    targets: list[tuple[str, Any]] = [held for held in net.named_modules() if has_own(held[1], "detach")]
    _warn_of_foreign("detach_net detaches", "detach()", [held for held in targets if held[1] not in done])
    _each_once(net, "detach", lambda path, module: module.detach())


def _warn_of_foreign(doing: str, has: str, targets: list[tuple[str, Any]]) -> None:
    """Say in one line what of the targets of a function is no `MemoryModule`."""
    foreign = [label(*held) for held in targets if not isinstance(held[1], MemoryModule)]
    if foreign:
        verb, one = ("has", "is not a MemoryModule") if len(foreign) == 1 else ("have", "are no MemoryModules")
        logger.warning("%s %s, which %s a %s but %s.", doing, listed(foreign), verb, has, one)


def set_step_mode(net: nn.Module, step_mode: str) -> None:
    """Set the step mode of every module of `net` that has one: all of them, or none where one refuses.

    - `step_mode`: `'s'` for single steps `[N, *]`, `'m'` for sequences `[T, N, *]`.

    What is inside a container that steps through time itself (`StepModeContainer`, `ElementWiseRecurrentContainer`,
    `LinearRecurrentContainer`) keeps its mode. A module with a `step_mode` that is no `StepModule` is set with a
    logged warning. ValueError, and a net left as it was, if a module does not support the mode.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(), spikescope.neuron.LIFNode())
    >>> set_step_mode(net, "m")
    >>> [module.step_mode for module in net]
    ['m', 'm']
    """
    check_module("set_step_mode", net)
    check_choice("set_step_mode", "step_mode", step_mode, ("s", "m"))
    targets = [(path, module) for path, module in outside_of_containers(net) if has_own(module, "step_mode")]
    refusing = [
        label(path, module)
        for path, module in targets
        if isinstance(module, StepModule) and step_mode not in module.supported_step_mode()
    ]
    if refusing:
        raise ValueError(
            f"set_step_mode: step_mode={step_mode!r} is not supported by {listed(refusing)}. The network is left as it "
            "was. Replace these modules, or wrap them in a container that has this mode."
        )
    for path, module in targets:
        if not isinstance(module, StepModule):
            logger.warning("set_step_mode sets %s, which has a step_mode but is not a StepModule.", label(path, module))
    _assign(targets, step_mode)


def outside_of_containers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of `net` with their paths, without what containers keep in a step mode of its own."""
    kept = {
        inner
        for module in net.modules()
        if isinstance(module, StepModule) and module.owns_children_step_mode
        for child in module.children()
        for inner in child.modules()
    }
    return [(path, module) for path, module in net.named_modules() if module not in kept]


def _assign(targets: list[tuple[str, Any]], step_mode: str) -> None:
    """Set all, or put back what was there and raise."""
    before = [module.step_mode for _, module in targets]
    try:
        for _, module in targets:
            module.step_mode = step_mode
    except Exception:
        for (_, module), old in zip(targets, before, strict=True):
            module.step_mode = old
        raise


def set_backend(
    net: nn.Module, backend: str, instance: type[nn.Module] | tuple[type[nn.Module], ...] = (nn.Module,)
) -> None:
    """Set the backend of every module of `net` that has the choice.

    - `backend`: `'auto'` (the fastest that gives the same spikes), `'torch'`, or another that the modules name in
      `supported_backends`. Those that do not support it keep their own, with one logged warning for all.
    - `instance`: only modules of this type, or of these types.

    A module that has a `backend` without being a `MemoryModule` is set too, with a logged warning.

    >>> net = nn.Sequential(nn.Linear(2, 2), spikescope.neuron.IFNode())
    >>> set_backend(net, "torch")
    >>> net[1].backend
    'torch'
    """
    check_module("set_backend", net)
    if not isinstance(backend, str):
        raise TypeError(f"set_backend: backend must be a name such as 'auto' or 'torch', but got {backend!r}.")
    chosen: list[tuple[str, Any]] = [
        (path, module)
        for path, module in net.named_modules()
        if isinstance(module, instance) and has_own(module, "backend")
    ]
    takes = [not hasattr(module, "supported_backends") or backend in backends_of(module) for _, module in chosen]
    taking = [held for held, fits in zip(chosen, takes, strict=True) if fits]
    lacking = [held for held, fits in zip(chosen, takes, strict=True) if not fits]
    _warn_of_foreign("set_backend sets", "backend", taking)
    for _, module in taking:
        module.backend = backend
    if lacking:
        logger.warning("%s", _keeping(lacking, backend))


def _keeping(lacking: list[tuple[str, Any]], backend: str) -> str:
    """What to say of modules that have not the backend."""
    offers = [name for held in registry.values() for name in backends_of(held)]
    kept = ", ".join(repr(name) for name in dict.fromkeys(module.backend for _, module in lacking))
    offered = ", ".join(repr(name) for name in dict.fromkeys(n for _, m in lacking for n in backends_of(m)))
    elsewhere = "" if backend in offers else did_you_mean(backend, offers)
    elsewhere = f" {_BACKENDS_ELSEWHERE[backend]}" if backend in _BACKENDS_ELSEWHERE else elsewhere
    return (
        f"set_backend: {listed([label(*held) for held in lacking])} {'has' if len(lacking) == 1 else 'have'} no "
        f"backend {backend!r}, only {offered}; {'it keeps' if len(lacking) == 1 else 'they keep'} {kept}.{elsewhere}"
    )


class NetworkState(Mapping[str, Mapping[str, Any]]):
    """The state of a network at one moment: for every module path its memories by name. Immutable.

    Tensors are those of the modules, with their autograd graph. Copies and pickles are without it.
    """

    __slots__ = ("_memories",)

    def __init__(self, memories: Mapping[str, Mapping[str, Any]]) -> None:
        self._memories = {path: dict(held) for path, held in memories.items()}

    def __getitem__(self, path: str) -> Mapping[str, Any]:
        return MappingProxyType(self._memories[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self._memories)

    def __len__(self) -> int:
        return len(self._memories)

    def __repr__(self) -> str:
        return f"NetworkState({self._memories!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return NetworkState, (pytree.tree_map_only(Tensor, Tensor.detach, self._memories),)


torch.serialization.add_safe_globals([NetworkState])  # what was saved of it is read by `torch.load` as it is


def get_state(net: nn.Module) -> NetworkState:
    """The present state of `net` as a value, for `set_state`.

    The tensors are shared, not copied: no module of the library changes a tensor of its state in place.

    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> _ = net(torch.tensor([0.25]))
    >>> state = get_state(net)
    >>> state["0"]["v"]
    tensor([0.2500])
    >>> _ = net(torch.tensor([0.5]))
    >>> set_state(net, state)
    >>> net[0].v
    tensor([0.2500])
    """
    check_module("get_state", net)
    return NetworkState(memories_of(net))


def memories_of(net: nn.Module) -> dict[str, dict[str, Any]]:
    """The memories of every module by path and name, in lists and tuples of their own."""
    return {
        path: {name: _copied(held) for name, held in module.named_memories()}
        for path, module in net.named_modules()
        if isinstance(module, MemoryModule)
    }


def _copied(held: Any) -> Any:
    """A list in the state must not grow with the one of the module; what it holds is shared."""
    return held if isinstance(held, Tensor) else pytree.tree_map(lambda leaf: leaf, held)


def set_state(net: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a state that `get_state` gave back into `net`, or into another network of the same structure.

    StateError, with the paths that are missing and those that are not known, if the state is of another network; the
    net is then left as it was.

    >>> node, other = spikescope.neuron.IFNode(), spikescope.neuron.IFNode()
    >>> _ = node(torch.tensor([0.25]))
    >>> set_state(other, get_state(node))
    >>> other.v
    tensor([0.2500])
    """
    check_module("set_state", net)
    if not isinstance(state, Mapping):
        raise TypeError(f"set_state takes what get_state gave, but got {type(state).__name__}.")
    wanted = _paths({path: dict(m.named_memories()) for path, m in net.named_modules() if isinstance(m, MemoryModule)})
    given = _paths(state)
    if wanted != given:
        raise StateError(
            "set_state: the state is of another network.\n"
            f"  missing     {listed(sorted(wanted - given)) or 'nothing'}\n"
            f"  unexpected  {listed(sorted(given - wanted)) or 'nothing'}\n"
            "Take it with get_state from this network or from one of the same structure."
        )
    for path, memories in state.items():
        module = net.get_submodule(path)
        for name, held in memories.items():
            setattr(module, name, _copied(held))


def _paths(state: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {f"{path}.{name}" if path else name for path, memories in state.items() for name in memories}


def label(path: str, module: nn.Module) -> str:
    """A module as a message names it.

    >>> label("features.3", nn.ReLU()), label("", nn.ReLU())
    ('features.3 (ReLU)', 'the network itself (ReLU)')
    """
    return f"{path or 'the network itself'} ({type(module).__name__})"


def listed(names: list[str], most: int = 8) -> str:
    """Names in a sentence, the first few of many.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
