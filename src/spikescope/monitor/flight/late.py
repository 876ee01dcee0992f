"""Numbers of a step on their way from a device: nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .glance import Answer

__all__ = ["Late"]


class Late:
    """Numbers by name, and tensors of one element. Those of a GPU are there when the work before them is done.

    >>> Late({"a": 1.5, "b": torch.tensor(True)}).values()
    {'a': 1.5, 'b': 1.0}
    """

    def __init__(self, given: Mapping[Any, Answer]) -> None:
        self._told: dict[Any, Any] = dict(given)
        self._names = [name for name, held in given.items() if isinstance(held, Tensor)]
        self._numbers: Any = []
        self._event: Any = None
        if self._names:
            self._ask([self._told[name].detach() for name in self._names])

    def _ask(self, tensors: Sequence[Tensor]) -> None:
        """Have the numbers of tensors brought here."""
        device = next((held.device for held in tensors if held.device.type == "cuda"), None)
        if device is None:
            self._numbers = [float(held) for held in tensors]
            return
        there = torch.stack([held.to(device, torch.float64).reshape(()) for held in tensors])
        self._numbers = torch.empty(there.shape, dtype=torch.float64, device="cpu", pin_memory=True)
        self._numbers.copy_(there, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(device))

    @property
    def there(self) -> bool:
        """Whether they have come."""
        return self._event is None or bool(self._event.query())

    def values(self) -> dict[Any, float]:
        """The numbers; waits for them."""
        if self._event is not None:
            self._event.synchronize()
            self._numbers, self._event = self._numbers.tolist(), None
        self._told.update(zip(self._names, self._numbers, strict=True))
        return self._told
