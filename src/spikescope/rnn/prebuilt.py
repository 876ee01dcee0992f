"""Which kernels recurrent cells have, to be compiled beforehand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch

from ..neuron.prebuilt import Wanted, examples
from .cells import SpikingGRUCell, SpikingLSTMCell, SpikingVanillaRNNCell

__all__ = ["CELLS", "of_cells"]

CELLS: dict[str, Any] = {cls.__name__: cls for cls in (SpikingGRUCell, SpikingLSTMCell, SpikingVanillaRNNCell)}
"""The cells, which layers have as well, by their names."""

_WIDE = (torch.float32, torch.float64)
"""The dtypes of which there are kernels."""


def of_cells(
    cells: Collection[str], dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]
) -> Iterator[Wanted]:
    """The kernels of cells, forwards and backwards, for what `of_neurons` takes."""
    for name in cells:
        yield Wanted(name, partial(_ask, CELLS[name], dtypes, surrogate_functions))


def _ask(cls: Any, dtypes: Collection[torch.dtype], surrogate_functions: Collection[str]) -> None:
    for surrogate in examples(surrogate_functions) or [None]:
        for dtype in dtypes:
            if dtype in _WIDE:  # of others the loop runs
                cell, x_seq = cls(2, 2, True, surrogate).to(dtype), torch.ones(1, 3, 2, dtype=dtype)
                cell.run(x_seq, cell.rest(x_seq, (3, 2)))
