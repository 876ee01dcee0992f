r"""The kernels of a batch normalisation on a CPU, forwards by the moments of the batch and backwards.

With $\delta$ the gradient that comes in, $s = \sum \delta$ and $q = \sum (x - \mu)\,\delta$ of each channel of $n$
values, the gradient of the input is $(\delta - s/n - (x - \mu)\,q r^2/n)\,r\gamma$, where $r$ is the inverse deviation;
those of shift and gain are $s$ and $q r$. Sums are taken in the order of PyTorch's own code, which is what makes their
bits; a product is added without being rounded where its compiler has put both into one instruction. A channel is in the
cache when it is read for the second time, and no memory is taken but for the results.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from ...toolchain.compiler import function
from ...toolchain.declared import declare
from ..cpp.borrowed import header
from ..cpp.native import threads_for

__all__ = ["gives_the_same", "norm_backward", "norm_forward"]


def _text() -> str:
    return header("math.h") + resources.files(__package__).joinpath("cpu.h").read_text()


declare("normalisation", _text)


@cache
def _forward() -> Callable[..., Any] | None:
    numbers = ctypes.c_double, ctypes.c_double, ctypes.c_int
    return function(_text(), "norm_forward", *[ctypes.c_void_p] * 8, *[ctypes.c_long] * 3, *numbers)


@cache
def _backward() -> Callable[..., Any] | None:
    return function(_text(), "norm_backward", *[ctypes.c_void_p] * 8, *[ctypes.c_long] * 3, ctypes.c_int)


def _fit(x: Tensor, *others: Tensor | None) -> bool:
    """Whether these are float32 without gaps, and the input such that PyTorch takes it plane by plane as well."""
    if x.ndim < 3 or not x.numel() or x.shape[1] == 1 or x.numel() == x.shape[0] * x.shape[1]:
        return False  # what may as well lie with the channels last
    held = [each for each in (x, *others) if each is not None]
    return all(each.dtype is torch.float32 and each.is_contiguous() and each.device.type == "cpu" for each in held)


def _addresses(*held: Tensor | None) -> list[int]:
    return [0 if each is None else each.data_ptr() for each in held]


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def norm_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
    taken: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The normalisation of `[N, C, *]` by the moments of the batch, with its mean and inverse deviation.

    The `running` mean and variance become `taken` those of the batch. None for what is left to PyTorch, as below.
    """
    kernel = _forward() if _fit(x, weight, bias, *running) else None
    if kernel is None:
        return None
    y, mean, inverse = torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    given = _addresses(x, weight, bias, *running, mean, inverse, y)
    kernel(*given, *_sizes(x), eps, taken, threads_for(x.numel()))
    return y, mean, inverse


def norm_backward(
    gy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
    """The gradients of input, gain and shift of a normalisation of `[N, C, *]` by the moments of its batch.

    None for other than float32 without gaps, for a single channel or planes of a single value, and where there is no
    kernel. Whether these are PyTorch's bits depends on the PyTorch: whoever needs that asks `gives_the_same`.
    """
    kernel = _backward() if _fit(x, gy, weight, mean, inverse) else None
    if kernel is None:
        return None
    gx = torch.empty_like(x)
    learned = [] if weight is None else [torch.empty_like(weight), torch.empty_like(weight)]
    of_learned = _addresses(*learned) or [0, 0]
    kernel(*_addresses(gy, x, weight, mean, inverse, gx), *of_learned, *_sizes(x), threads_for(x.numel()))
    return gx, *(learned or (None, None))


@cache
def gives_the_same(size: int) -> bool:
    """Whether the kernels give the bits of PyTorch for planes of `size` values, on random numbers."""
    own, channels = torch.Generator("cpu").manual_seed(0), 11
    x, gy = torch.randn(2, 3, channels, size, generator=own, dtype=torch.float32, device="cpu") * 3 + 0.7
    weight, bias, mean, variance = torch.rand(4, channels, generator=own, dtype=torch.float32, device="cpu") + 0.5
    for gain, shift in ((weight, bias), (None, None)):
        ours, theirs = ((mean.clone(), variance.clone()) for _ in range(2))
        found = norm_forward(x, gain, shift, ours, 0.3, 1e-5)
        want = torch.native_batch_norm(x, gain, shift, *theirs, True, 0.3, 1e-5)
        if found is None or not all(map(torch.equal, (*found, *ours), (*want, *theirs))):
            return False
        of: Any = torch.ops.aten.native_batch_norm_backward
        gradients = of(gy, x, gain, None, None, *want[1:], True, 1e-5, (True, gain is not None, gain is not None))
        back = norm_backward(gy, x, gain, *want[1:])
        if back is None or not all(a is None or torch.equal(a, b) for a, b in zip(back, gradients, strict=True)):
            return False
    return True
