"""Neurons around a `node`, which a subclass may write by hooks: `neuronal_charge(x)` of `self.v`, and the others."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...surrogate import Rect, Surrogate
from ..integrate import IFNode

__all__ = ["AroundNode"]

_SHARED = ("v", "v_threshold", "v_reset", "surrogate_function")
_HOOKS = ("init_tensor", "neuronal_charge", "neuronal_fire", "neuronal_reset")


class AroundNode(nn.Module):
    """Has the potential, the threshold, the reset and the surrogate of its `node`, and that one's stages as hooks."""

    node: Any

    def _inner(
        self, node: nn.Module | None, v_threshold: float, v_reset: float | None, surrogate: Surrogate | None
    ) -> nn.Module:
        """The neuron inside: `node`, or where a subclass charges by a hook one with these numbers."""
        if node is not None:
            return node
        cls = type(self)
        if cls.neuronal_charge is AroundNode.neuronal_charge:
            raise TypeError(
                f"{cls.__name__} is the base of a family of neurons; use one of the family, or write a subclass with "
                "neuronal_charge(self, x), which assigns self.v."
            )
        return IFNode(v_threshold=v_threshold, v_reset=v_reset, surrogate_function=surrogate or Rect())

    def init_tensor(self, data: Tensor) -> None:
        """Put the state to rest, for steps like `data`."""
        self.node.reset()
        self.node.v_float_to_tensor(data)

    def neuronal_charge(self, x: Tensor) -> None:
        """Charge the potential `v` by `x`."""
        self.node.neuronal_charge(x)

    def neuronal_fire(self) -> Tensor:
        """The spike of the charged potential."""
        spike: Tensor = self.node.neuronal_fire()
        return spike

    def neuronal_reset(self, spike: Tensor) -> None:
        """Reset the potential where there is a spike."""
        self.node.neuronal_reset(spike)

    def _by_hooks(self) -> bool:
        """Whether a subclass has hooks of its own."""
        cls = type(self)
        return any(getattr(cls, name) is not getattr(AroundNode, name) for name in _HOOKS)

    def _stepped(self, x: Tensor) -> Tensor:
        """One step of the neuron, by its hooks."""
        self.neuronal_charge(x)
        spike = self.neuronal_fire()
        self.neuronal_reset(spike)
        return spike

    def __getattr__(self, name: str) -> Any:
        if name in _SHARED and "node" in self.__dict__.get("_modules", ()):
            return getattr(self.node, name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, given: Any) -> None:
        if name in _SHARED and "node" in self.__dict__.get("_modules", ()):
            setattr(self.node, name, given)
        else:
            super().__setattr__(name, given)
