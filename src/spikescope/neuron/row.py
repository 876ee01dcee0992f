"""The modules of a row, called without what surrounds a call: for steps so small that this takes longer than they do.

A row is an `nn.Sequential`, or one inside another, of neurons and of modules of PyTorch's own. What holds for all of a
step is asked once, before it: that nobody has put a hook on any of them, that no tracer, transform, mode or checkpoint
is at work, that the row is as it was. Then an `nn.Linear` is its function of its parameters as they are now, and a
neuron its kernel by the short way, which asks of each of them what may have changed. Everything else is called as a
module, and where something does not hold, the network is.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..internals import checkpoint_at_work, function_modes, is_patched, is_undisturbed
from ..sockets import are_bare
from .core import PointwiseNeuron
from .shortcut import short_way

__all__ = ["Row"]

_OWN = frozenset(("forward", "weight", "bias", "_call_impl", "_slow_forward", "_wrapped_call_impl"))
"""What an instance of PyTorch's may have in the place of what its class has or of a parameter."""

_PARAMETERS = frozenset(("weight", "bias"))


def _written() -> tuple[object, ...]:
    """The methods through which the modules of a row are called, as they are now."""
    return (
        nn.Module._call_impl,
        nn.Sequential.__call__,
        nn.Sequential.forward,
        nn.Linear.__call__,
        nn.Linear.forward,
        PointwiseNeuron.__call__,
    )


_as_written = _written()


def _is_own(module: nn.Module) -> bool:
    """Whether a call of a module is what its class says, and is not compiled."""
    return (
        module._compiled_call_impl is None
        and module.__dict__.keys().isdisjoint(_OWN)
        and (type(module) is not nn.Linear or module._parameters.keys() >= _PARAMETERS)
    )


class Row:
    """The modules of a network in the order of their calls, as they are now."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.within: list[tuple[nn.Sequential, list[nn.Module]]] = []
        self.row: list[tuple[nn.Module, type[nn.Module] | None]] = []
        self._add(net)
        modules = [module for module, _ in self.row]
        self.own = [*(module for module, _ in self.within), *(m for m, kind in self.row if kind is nn.Linear)]
        self.modules = [*(module for module, _ in self.within), *modules]
        self.types = [*map(type, self.modules)]  # a parametrisation changes that of a module
        self.is_known = all(map(_is_known, modules)) and any(kind is not None for _, kind in self.row)

    def _add(self, module: nn.Module) -> None:
        if type(module) is nn.Sequential:
            children = [*module._modules.values()]
            self.within.append((module, children))
            for child in children:
                self._add(child)
        elif type(module) is nn.Linear:
            self.row.append((module, nn.Linear))
        else:
            self.row.append((module, PointwiseNeuron if isinstance(module, PointwiseNeuron) else None))

    def holds(self, net: nn.Module) -> bool:
        """Whether these are the modules that a call of `net` would come to."""
        if self.net is not net or [*map(type, self.modules)] != self.types:
            return False
        return all([*module._modules.values()] == children for module, children in self.within)

    def is_open_to(self, x: Any) -> bool:
        """Whether a step of this input is nothing but what is written in the modules."""
        if not self.is_known or type(x) is not Tensor or not is_undisturbed() or is_patched() or function_modes():
            return False
        if _written() != _as_written or checkpoint_at_work(True) is not None or not are_bare(self.modules):
            return False
        return all(map(_is_own, self.own))

    def step(self, x: Tensor) -> Tensor:
        """The output for an input that it is open to, without gradients."""
        for module, kind in self.row:
            if kind is nn.Linear:
                parameters: dict[str, Any] = module._parameters
                x = functional.linear(x, parameters["weight"], parameters["bias"])
            elif kind is None:
                x = module(x)
            else:
                y = short_way(module).again(module, x)
                x = module(x) if y is None else y
        return x


def _is_known(module: nn.Module) -> bool:
    """Whether no code of others runs in a call of this module, nor does it ask who calls it."""
    cls = type(module)
    if isinstance(module, PointwiseNeuron):
        return cls.__module__.startswith("spikescope.")
    return cls.__module__.startswith("torch.nn.modules.") and not module._modules
