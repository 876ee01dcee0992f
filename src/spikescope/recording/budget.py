"""How much a recorder may keep, and what it does when that is used up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..display import bytes_in
from ..errors import check_choice
from ..form import tensors_of
from ..spikes import CompressedSpikes, PackedSpikes

__all__ = ["UNLIMITED", "Budget", "BudgetError", "budget", "device_of", "nbytes"]

_POLICIES = ("error", "drop oldest", "every n-th", "spill")


class BudgetError(MemoryError):
    """A recorder has reached its budget."""


def nbytes(value: Any) -> int:
    """The size of the tensors and arrays in a value; anything else counts 64 bytes.

    >>> nbytes((torch.zeros(3), {"a": torch.zeros(2, dtype=torch.uint8)}, 1))
    78
    """
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (np.ndarray, PackedSpikes, CompressedSpikes)):
        return value.nbytes
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return 64
    return sum(nbytes(item) for item in value)


def device_of(value: Any) -> torch.device:
    """Where a value lies: the device of its first tensor."""
    held = value.bits if isinstance(value, PackedSpikes) else next(iter(tensors_of(value)), None)
    return torch.device("cpu") if held is None else held.device


@dataclass(frozen=True)
class Budget:
    """The bytes that a recorder may hold, and what it does when they are used up.

    - `limit`: bytes, a text such as `'64 MB'` (1 kB = 1024 bytes), or `'unlimited'`.
    - `policy`: `'error'` stops recording, and reading tells so; `'drop oldest'` keeps what came last;
      `'every n-th'` keeps every 2nd, 4th, 8th ... call of each module, so that the whole run is covered evenly;
      `'spill'` moves what is over the limit to files, and reads it from there.
    - `folder`: of `'spill'`: where each recorder makes a folder of its own, see `monitor.open_records`; closing the
      recorder writes the rest there. None takes a temporary one, which goes away with the records.

    >>> Budget("64 MB", "drop oldest").bytes
    67108864
    """

    limit: int | str = "1 GB"
    policy: str = "error"
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_choice("Budget", "policy", self.policy, _POLICIES)
        if self.bytes is not None and self.bytes < 1:
            raise ValueError(f"Budget: the limit must be at least 1 byte or 'unlimited', but got {self.limit!r}.")
        if self.policy == "spill" and self.bytes is None:
            raise ValueError("Budget: an unlimited budget leaves nothing to spill; give a limit such as '64 MB'.")
        if self.policy != "spill" and self.folder is not None:
            raise ValueError(f"Budget: only the policy 'spill' has a folder, but got {self.policy!r}.")

    @property
    def bytes(self) -> int | None:
        """The limit as a number; None without a limit."""
        if self.limit == "unlimited":
            return None
        if isinstance(self.limit, int) and not isinstance(self.limit, bool):
            return self.limit
        found = bytes_in(str(self.limit))
        if found is None:
            raise ValueError(
                f"Budget: the limit must be a number of bytes, a text such as '64 MB', or 'unlimited', "
                f"but got {self.limit!r}."
            )
        return found


UNLIMITED = Budget("unlimited")


def budget(given: Budget | int | str | None) -> Budget:
    """A budget from itself or from its limit; None is no limit."""
    if given is None:
        return UNLIMITED
    return given if isinstance(given, Budget) else Budget(given)
