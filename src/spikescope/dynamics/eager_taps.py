"""The taps of a fused kernel computed from an eager run: with the same names, shapes and memory order."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import BLOCK, layout, real_dtype, support_bounds

__all__ = ["eager_taps"]


def eager_taps(names: tuple[str, ...], x_seq: Tensor, output: Tensor, h_seq: Tensor | None) -> dict[str, Tensor]:
    """The taps `names` of a run over `x_seq`, without graph; `h_seq` is the potential before each reset, if told."""
    fired, steps = output.detach() != 0, x_seq.shape[0]
    _, step = layout(x_seq)
    rows = [0, *(axis + 1 for axis in step.axes())]
    made = {}
    for name in names:
        if name == "count":
            made[name] = fired.sum(0, dtype=torch.uint8 if steps < 256 else torch.int32)
        elif name == "packed":
            made[name] = _packed(fired.permute(rows).reshape(steps, step.numel))
        elif h_seq is None:
            continue  # its step does not tell the potential before the reset
        elif name == "h":
            made[name] = h_seq.detach()
        else:
            h = h_seq.detach().permute(rows).reshape(steps, step.numel).to(real_dtype(x_seq))
            made[name] = _range(h) if name == "range" else _inside(h, *support_bounds(name))
    return made


def _packed(fired: Tensor) -> Tensor:
    """Eight neighbours a byte, the first in the lowest bit; the last byte is filled up with zeros."""
    fired = torch.nn.functional.pad(fired, (0, -fired.shape[1] % 8))
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=fired.device)
    return (fired.unflatten(1, (-1, 8)) * weights).sum(2, dtype=torch.uint8)


def _range(h: Tensor) -> Tensor:
    """Minimum, maximum and sum over time of each block of neurons."""
    blocks = [
        torch.stack([held.amin().double(), held.amax().double(), held.sum(dtype=torch.float64)])
        for held in h.split(BLOCK, dim=1)
        if held.numel()
    ]
    return torch.stack(blocks) if blocks else h.new_empty(0, 3, dtype=torch.float64)


def _inside(h: Tensor, v_threshold: float, low: float, high: float) -> Tensor:
    """How often the potential was inside the support, in each block of neurons."""
    off = h - v_threshold
    inside = ((off >= low) & (off <= high)).sum(0)
    blocks = [held.sum() for held in inside.split(BLOCK) if held.numel()]
    return torch.stack(blocks) if blocks else inside.new_empty(0)
