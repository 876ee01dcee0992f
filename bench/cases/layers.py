"""Batch normalisation in training and max-pooling by our layers against PyTorch's own: the same bits, in less time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import layer

from ..harness import Options, Row, agreement, measure

__all__ = ["rows"]

SHAPES = ((128, 32, 28, 28), (128, 32, 14, 14), (8, 32, 32, 32))
"""The layers of a small network with T = 4 and batch 32, and one step of a larger one."""


def _both(module: nn.Module, x: Tensor, gy: Tensor) -> tuple[Tensor, ...]:
    y = module(x)
    return (y, *torch.autograd.grad(y, (x, *module.parameters()), gy))


def _rows_of(name: str, ours: nn.Module, theirs: nn.Module, x: Tensor, options: Options) -> Iterator[Row]:
    rival = f"torch.nn.{type(theirs).__name__}"
    gy = torch.randn_like(ours(x))
    for what, run in (("forward", lambda module: (module(x),)), ("forward + backward", partial(_both, x=x, gy=gy))):
        work: dict[str, Callable[[], Any]] = {"ours": partial(run, ours), rival: partial(run, theirs)}
        found = {rival: agreement(work["ours"](), work[rival]())}
        yield from measure("layers", f"{name}, {list(x.shape)}", what, work, found, options)


def rows(options: Options) -> Iterator[Row]:
    """Four rows a shape."""
    torch.manual_seed(0)
    for n, *rest in SHAPES:
        x = torch.rand(options.size(n, 2), *rest, requires_grad=True)
        yield from _rows_of("BatchNorm2d, training", layer.BatchNorm2d(rest[0]), nn.BatchNorm2d(rest[0]), x, options)
        yield from _rows_of("MaxPool2d(2)", layer.MaxPool2d(2), nn.MaxPool2d(2), x, options)
