"""Numbers of a step on their way from a device: nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping
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
        self._names = list(given)
        self._event: Any = None
        tensors = [held for held in given.values() if isinstance(held, Tensor)]
        device = next((held.device for held in tensors if held.device.type == "cuda"), None)
        if device is None:
            self._numbers: Any = [float(held) for held in given.values()]
            return
        there = torch.stack([_placed(held, device) for held in given.values()])
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
        return dict(zip(self._names, self._numbers, strict=True))


def _placed(held: Answer, device: torch.device) -> Tensor:
    if isinstance(held, Tensor):
        return held.detach().to(device, torch.float64).reshape(())
    return torch.full((), held, dtype=torch.float64, device=device)
