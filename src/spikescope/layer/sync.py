"""Batch normalisation whose statistics are those of all processes, on every device and backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .one_sample import strided_alike

__all__ = ["Shared", "synchronized_norm", "together"]


def together(process_group: Any) -> Any:
    """The process group that shares its statistics; None where this process is alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def synchronized_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    r"""What the batch normalisation `norm` gives for this process's part `x` `[N, C, *]` of a batch.

    In training, mean and variance are those of the parts of all processes of `norm.process_group`, which may be of
    different sizes, or empty; in eval, and in a process alone, this is PyTorch's normalisation. Gradients go through
    the statistics to all processes; those of the weight and bias are of this part, for `DistributedDataParallel` to
    average.

    PyTorch's own `SyncBatchNorm` has kernels for a GPU, which are used there, and refuses tensors of a CPU.
    """
    group = together(norm.process_group) if norm.training else None
    if group is None:
        return strided_alike(partial(_BatchNorm.forward, norm), x)
    alike = getattr(norm, "with_neuron", False)  # then other processes may be on their way through a kernel
    if x.is_cuda and hasattr(norm, "_check_non_zero_input_channels") and not alike:
        return nn.SyncBatchNorm.forward(norm, x)  # type: ignore[arg-type]  # it asks for no more than this has
    norm._check_input_dim(x)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean, variance, count = _moments(wide, group)
    _track(norm, mean.detach(), variance.detach(), count)
    gain = torch.rsqrt(variance + norm.eps)
    gain = gain if norm.weight is None else gain * norm.weight
    shift = -mean * gain if norm.bias is None else norm.bias - mean * gain
    channels = (1, -1, *(1,) * (x.ndim - 2))
    return torch.addcmul(shift.view(channels), wide, gain.view(channels)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes of a group; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grads[0].contiguous(), ctx.group), None


def _moments(x: Tensor, group: Any) -> tuple[Tensor, Tensor, float]:
    """Mean and population variance of each channel over all processes, and the number of values in it.

    Each process puts its own moments into one row of a table, whose sum holds them all: of parts with means far apart
    no sum of squares would keep the variance.
    """
    channels = x.shape[1]
    count = x.numel() // max(channels, 1)
    over = (0, *range(2, x.ndim))
    if count:
        variance, mean = torch.var_mean(x, over, correction=0)
    else:
        mean = variance = x.sum(over)  # zeros, with a graph: the backward pass of the others waits for this process
    return _of_all(mean, variance, count, group)


def _of_all(mean: Tensor, variance: Tensor, count: int, group: Any) -> tuple[Tensor, Tensor, float]:
    """The moments of all processes, from those of this one over `count` values."""
    row, channels = torch.cat((mean, variance, mean.new_tensor([count]))), len(mean)
    place, places = distributed.get_rank(group), distributed.get_world_size(group)
    table = F.pad(row.unsqueeze(0), (0, 0, place, places - place - 1))
    table = _Sum.apply(table, group)
    means, variances, counts = table.split((channels, channels, 1), 1)
    total = counts.sum().item()
    if total <= 1:
        raise ValueError(
            f"A batch normalisation in training needs more than one value a channel, but all processes together have "
            f"{total:.0f}."
        )
    share = counts / total
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0), total


class Shared:
    """How the processes of a group put together the moments of their parts, as `synchronized_norm` does."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def moments(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
        """Mean and population variance of each channel over all processes, and the number of values in it. Gradients
        go to the processes that the moments come from.
        """
        return _of_all(mean, variance, count, self.group)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float) -> None:
    """Take the moments into the running statistics, with the unbiased variance, as PyTorch does."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    taken = 1 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    for running, now in ((norm.running_mean, mean), (norm.running_var, variance * (count / (count - 1)))):
        running.mul_(1 - taken).add_(now.to(running.dtype), alpha=taken)
