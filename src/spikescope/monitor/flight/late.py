"""Numbers of a step on their way from a device: nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Late"]


class Late:
    """Tensors of one element by name. Those of a GPU are there when the work before them is done.

    >>> Late({"a": torch.tensor(1.5), "b": torch.tensor(True)}).values()
    {'a': 1.5, 'b': 1.0}
    """

    def __init__(self, given: Mapping[Any, Tensor]) -> None:
        self.names = list(given)
        device = next((held.device for held in given.values() if held.device.type == "cuda"), torch.device("cpu"))
        held = [one.detach().to(device, torch.float64, non_blocking=True).reshape(()) for one in given.values()]
        self._held = torch.stack(held) if held else torch.zeros(0)
        self._event: Any = None
        if device.type == "cuda":
            home = torch.empty(self._held.shape, dtype=torch.float64, device="cpu", pin_memory=True)
            home.copy_(self._held, non_blocking=True)
            self._held, self._event = home, torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    @property
    def there(self) -> bool:
        """Whether they have come."""
        return self._event is None or bool(self._event.query())

    def values(self) -> dict[Any, float]:
        """The numbers; waits for them."""
        if self._event is not None:
            self._event.synchronize()
        return dict(zip(self.names, self._held.tolist(), strict=True))
