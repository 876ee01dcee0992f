"""Data in memory: a split, its batches, its encoding over time, and a light augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError, dims

__all__ = ["Dataset", "batches", "direct_encoding", "shift_images"]


@dataclass(frozen=True)
class Dataset:
    """Samples `[N, *]` and class labels `[N]`, split into a part to train on and a part to test on."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if not len(x) or y.shape != x.shape[:1]:
                raise ShapeError(
                    f"Dataset: the {part} part needs samples [N, *] and labels [N] with N above 0, "
                    f"but got {dims(x.shape)} and {dims(y.shape)}."
                )

    def to(self, device: torch.device | str) -> Self:
        """The same data on another device."""
        return type(self)(*(part.to(device) for part in (self.x_train, self.y_train, self.x_test, self.y_test)))


def batches(
    x: Tensor, y: Tensor, size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of `size` samples (the last may be smaller), shuffled when there is a `generator` (a CPU one).

    >>> [part.tolist() for part, _ in batches(torch.arange(5), torch.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    if generator is None:
        order = torch.arange(len(x), device="cpu")
    else:
        order = torch.randperm(len(x), generator=generator, device="cpu")
    for chosen in order.to(x.device).split(size):
        yield x[chosen], y[chosen]


def direct_encoding(x: Tensor, steps: int) -> Tensor:
    """The same frame at every time step: `[N, *]` to `[T, N, *]` without copying, the stride in time being 0.

    Stateless layers see this and compute the frame once.

    >>> direct_encoding(torch.tensor([[0.25, 0.75]]), 3).shape
    torch.Size([3, 1, 2])
    """
    return x.unsqueeze(0).expand(steps, *x.shape)


def shift_images(share: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An augmentation: it moves a `share` of the images by up to one pixel each way; zeros come in at the border.

    >>> shift_images(0.0)(torch.ones(1, 1, 2, 2), torch.Generator()).flatten()
    tensor([1., 1., 1., 1.])
    """

    def shift(x: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = x.shape
        by = torch.randint(0, 3, (count, 2), generator=generator, device="cpu")
        still = torch.rand(count, generator=generator, device="cpu") >= share
        by[still] = 1  # 1 is no shift: the padding is one pixel wide
        by = by.to(x.device)
        rows = by[:, :1] + torch.arange(height, device=x.device)
        columns = by[:, 1:] + torch.arange(width, device=x.device)
        sample = torch.arange(count, device=x.device)[:, None, None]
        return F.pad(x, (1, 1, 1, 1))[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return shift
