"""Spikes among the values of a network: whole numbers of them, and those of a height of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LEVELS", "heights_in", "is_scaled", "of_height_one", "spikes_in"]

LEVELS = 8
"""Spikes to the step up to which whole numbers are taken for spikes: an image of 0 to 255 is none."""


def is_scaled(module: nn.Module) -> bool:
    """Whether it is a module around a neuron whose output is spikes times `scale`, as `ann2snn.ScaledNeuron`."""
    # no protocol: from Python 3.12 on its isinstance sees neither parameters nor children of a module
    scale, inner = getattr(module, "scale", None), getattr(module, "neuron", None)
    return isinstance(scale, (Tensor, float, int)) and isinstance(inner, nn.Module)


def heights_in(net: nn.Module) -> list[Tensor]:
    """The heights of the spikes of all scaled neurons."""
    scales: list[Any] = [module.scale for module in net.modules() if is_scaled(module)]
    return [torch.as_tensor(held, device=getattr(held, "device", "cpu")).detach().abs() for held in scales]


def spikes_in(x: Tensor) -> Tensor | None:
    """The numbers of spikes, of either sign, where a tensor holds nothing else.

    >>> spikes_in(torch.tensor([0.0, -1.0, 2.0])), spikes_in(torch.tensor([0.5]))
    (tensor([0., 1., 2.]), None)
    """
    held = x.abs()
    if x.dtype == torch.bool or not x.numel():
        return held if x.dtype != torch.bool else x.to(torch.float32)
    whole = bool((held == held.round()).all()) and held.max().item() <= LEVELS
    return held if whole else None


def of_height_one(x: Tensor, heights: list[Tensor]) -> Tensor:
    """Spikes of one of these heights, or several to the step, as whole numbers; a tensor of anything else as it is.

    The height is a factor that the weights behind can take: a spike of it is an addition like any other.

    >>> of_height_one(torch.tensor([0.0, 0.7, 1.4]), [torch.tensor(0.3), torch.tensor(0.7)])
    tensor([0., 1., 2.])
    """
    if not heights or not x.is_floating_point() or spikes_in(x) is not None:
        return x
    highest, rounding = x.abs().max(), 2 * torch.finfo(x.dtype).eps
    for height in heights:
        if height.numel() == 1 and _parts(highest / height.to(x), rounding) is None:
            continue  # without a look at all values, which may be the weights of a large layer
        if height.ndim > x.ndim or any(
            held not in (1, size) for held, size in zip(reversed(height.shape), reversed(x.shape), strict=False)
        ):
            continue
        whole = _parts(x / height.to(x), rounding)
        if whole is not None:
            return whole
    return x


def _parts(held: Tensor, rounding: float) -> Tensor | None:
    """Whole numbers of spikes, if that is what there is up to rounding, which leaves a 0 what it is."""
    whole = held.round()
    few = bool(((held - whole).abs() <= rounding * whole.abs()).all()) and whole.abs().max().item() <= LEVELS
    return whole if few else None
