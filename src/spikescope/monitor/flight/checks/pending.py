"""Answers that are still on their way from a device: nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Answer", "Coming", "Late"]

Answer = float | Tensor
"""A number; of what lies on another device a tensor of one element there, for which nobody waits."""


class Coming:
    """The numbers of a tensor. Those of a GPU are there when the work before them is done."""

    def __init__(self, there: Tensor) -> None:
        self._event: Any = None
        self._here = there
        if there.device.type in ("cuda", "xpu"):
            self._here = torch.empty(there.shape, dtype=there.dtype, device="cpu", pin_memory=True)
            self._here.copy_(there, non_blocking=True)
            backend = getattr(torch, there.device.type)
            self._event = backend.Event()
            self._event.record(backend.current_stream(there.device))

    @property
    def there(self) -> bool:
        """Whether they have come."""
        return self._event is None or bool(self._event.query())

    def values(self) -> list[Any]:
        """The numbers, one after the other; waits for them."""
        if self._event is not None:
            self._event.synchronize()
        found: list[Any] = self._here.flatten().tolist()
        return found


class Answers(Protocol):
    """Numbers by name that come by themselves."""

    @property
    def there(self) -> bool: ...

    def values(self) -> dict[Any, float]: ...


class Late:
    """Numbers by name, tensors of one element, and what else is on its way.

    >>> Late({"a": 1.5, "b": torch.tensor(True)}).values()
    {'a': 1.5, 'b': 1.0}
    """

    def __init__(self, told: Mapping[Any, Answer], more: Sequence[Answers] = ()) -> None:
        self._told: dict[Any, Any] = dict(told)
        self._more = more
        self._names = [name for name, held in told.items() if isinstance(held, Tensor)]
        self._coming: Coming | None = None
        if self._names:
            tensors = [self._told[name].detach() for name in self._names]
            device = next((held.device for held in tensors if not held.is_cpu), tensors[0].device)
            self._coming = Coming(torch.stack([held.to(device, torch.float64).reshape(()) for held in tensors]))

    @property
    def there(self) -> bool:
        """Whether they have come."""
        if self._coming is None and not self._more:  # as on a host: all was known at once
            return True
        return (self._coming is None or self._coming.there) and all(one.there for one in self._more)

    def values(self) -> dict[Any, float]:
        """The numbers; waits for them."""
        if self._coming is not None:
            self._told.update(zip(self._names, self._coming.values(), strict=True))
        for one in self._more:
            self._told.update(one.values())
        self._names, self._coming, self._more = [], None, ()
        return self._told
