"""What the kernels of reducers share: the dtypes that they take, their values in blocks, and how they lie in memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ....dynamics.cpp.kernel import IO_TYPES, NARROW, prelude
from ....internals import is_plain
from ....toolchain.compiler import function

__all__ = [
    "DTYPES",
    "NUMBER",
    "PLACE",
    "SIZE",
    "THREADS",
    "columns",
    "in_any_order",
    "kernel_for",
    "of_bits",
    "of_values",
]

DTYPES = tuple(IO_TYPES)
"""The dtypes of the signals that they take."""

SIZE = 4096
"""Values that a kernel takes at a time: they stay in the first-level cache."""

PLACE, NUMBER, THREADS = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


def of_values(text: str, dtype: torch.dtype) -> str:
    """The text of a kernel for signals of a dtype, in which `values(x, e, held)` are `e` values as `real` numbers."""
    narrow = "widen(x, held, e); return held;" if dtype in NARROW else "(void)held, (void)e; return x;"
    return f"""{prelude(dtype, 0)}
constexpr long SIZE = {SIZE};
static inline const real* values(const io* x, long e, real* held) {{ {narrow} }}
{text}"""


def of_bits(text: str, dtype: torch.dtype) -> str:
    """The text of a kernel for the bits of signals of a dtype, whole numbers `word` with the sign in the highest."""
    return f"""#include <stdint.h>
#include <string.h>
using word = uint{8 * dtype.itemsize}_t;
{text}"""


def kernel_for(x: Tensor, text: Callable[[torch.dtype], str], name: str, *given: Any) -> Callable[..., Any] | None:
    """The function of a kernel for the dtype of a signal; None where it may not read it, or where there is none."""
    if x.device.type != "cpu" or x.dtype not in DTYPES or not x.numel() or not is_plain(x):
        return None
    return _function(text, x.dtype, name, given)


@cache
def _function(
    text: Callable[[torch.dtype], str], dtype: torch.dtype, name: str, given: tuple[Any, ...]
) -> Callable[..., Any] | None:
    return function(text(dtype), name, *given)


def in_any_order(x: Tensor) -> Tensor:
    """The values in one run of memory, in whatever order they are there."""
    return x.permute(sorted(range(x.ndim), key=x.stride, reverse=True)).contiguous()


def columns(x: Tensor) -> int:
    """How many neurons a sample of a signal `[T, N, *F]` has."""
    return math.prod(x.shape[2:])
