"""How much the backward pass of a convolution may take, so that the step takes no more at its peak.

What is kept grows while a network runs forwards and is given back, the last first, while it runs backwards. So a step
takes most about where the backward pass begins, and what later layers have kept is room for the earlier ones: a
convolution with room takes its gradients in few slices or in one, which takes less time.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["Room"]


@dataclass
class _Layer:
    """A convolution or a normalisation where it has run forwards, in bytes.

    - `kept`: what was kept by then; `least`: what its backward pass takes beside that, whatever is done for it.
    - `gradient`: of its weight; `beside`: of tensors that others will read as well, and that have gradients then.
    - `later`: of the gradients of the weights of all later layers, once the call has ended.
    """

    kept: int
    least: int
    gradient: int
    beside: int
    later: int = 0


class Room:
    """What one call of a network keeps from layer to layer, and so where its step takes most."""

    def __init__(self) -> None:
        self._kept = 0
        self._layers: list[_Layer] = []
        self._counted: dict[int, StorageWeakRef] = {}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._last: tuple[_Layer, int] | None = None
        self._most: tuple[int, int] | None = None

    def keep(self, storage: UntypedStorage, size: int) -> None:
        """Autograd keeps memory, or `size` bytes in its stead; one that it keeps twice counts once."""
        held = self._counted.get(storage._cdata)
        if held is None or held.expired():
            self._counted[storage._cdata] = StorageWeakRef(storage)
            self._kept += size

    def made(self, reference: StorageWeakRef, size: int) -> None:
        """A module has given a tensor of `size` bytes."""
        self._alive[reference.cdata] = (reference, size)

    def layer(self, x: Tensor, least: int, gradient: int = 0) -> int:
        """Here a layer has run on `x`; the number that it is asked by in `left`."""
        self._settle()
        own = x.untyped_storage()._cdata
        beside = sum(size for cdata, (_, size) in self._alive.items() if cdata != own)
        found = _Layer(self._kept, least, gradient, beside)
        self._layers.append(found)
        self._last = (found, own)
        return len(self._layers) - 1

    def _settle(self) -> None:
        """Whoever reads the input of the last layer as well still holds it now."""
        self._alive = {cdata: held for cdata, held in self._alive.items() if not held[0].expired()}
        if self._last is not None:
            layer, own = self._last
            layer.beside += self._alive[own][1] if own in self._alive else 0
            self._last = None

    def close(self) -> None:
        """At the end of the call."""
        self._settle()
        self._counted.clear()
        self._alive.clear()
        later, most = 0, [0, 0]
        for layer in reversed(self._layers):
            least = layer.kept + layer.least
            most = [max(most[0], least), max(most[1], least + later)]
            layer.later = later
            later += layer.gradient
        self._most = most[0], most[1]

    def left(self, number: int) -> int:
        """Bytes that the backward pass of a layer may take; 0 before the call has ended.

        Gradients of parameters come about in the backward pass, or they were there before: it is room for both.
        """
        if self._most is None:
            return 0
        layer, (most, with_gradients) = self._layers[number], self._most
        return min(most, with_gradients - layer.later) - layer.kept - layer.beside
