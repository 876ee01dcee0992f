"""What a batch normalisation hands over to the neuron behind it, so that both are one run on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..internals import checkpoint_at_work, is_ordinary, is_undisturbed, next_in_a_row
from ..neuron import PointwiseNeuron
from ..neuron.behind import Norm, admits, give
from ..sockets import are_bare
from .fold import is_expanded
from .sync import Shared, together

__all__ = ["hand_over"]


def hand_over(norm: Any, x: Tensor) -> bool:
    """Leave the normalisation of `x` to the neuron that is called next, and say whether that is so.

    It is where an `nn.Sequential` calls the two, one right after the other, on a GPU, and nobody sees what is between
    them: no hook, no monitor, no compiler. In all other calls the normalisation does its work itself.
    """
    if torch.compiler.is_compiling() or type(x) is not Tensor or not (is_ordinary(x) and is_undisturbed()):
        return False
    node = next_in_a_row(norm)
    if not isinstance(node, PointwiseNeuron) or node.step_mode != norm.step_mode:
        return False
    by_batch = norm.training or norm.running_mean is None or norm.running_var is None
    channels = x.shape[1 if norm.step_mode == "s" else 2]
    learned = [held for held in (norm.weight, norm.bias, norm.running_mean, norm.running_var) if held is not None]
    if (
        channels != norm.num_features
        or x.numel() <= channels * by_batch  # of one value there is no variance, which PyTorch says
        or (norm.step_mode == "m" and is_expanded(x, norm))
        or (norm.weight is None) is not (norm.bias is None)
        or any(held.get_device() != x.get_device() for held in learned)
        or not are_bare([norm])
        or (norm.training and not torch.is_grad_enabled())  # maybe in a checkpoint, which runs both again, apart
        or checkpoint_at_work(norm.training) is not None
        or not admits(node, x)
    ):
        return False
    give(node, _norm(norm, by_batch), x)
    return True


def _norm(norm: Any, by_batch: bool) -> Norm:
    """The normalisation as a run takes it; the batch is counted."""
    taken, track = 0.0, norm.training and norm.track_running_stats and norm.running_mean is not None
    if track:
        norm.num_batches_tracked.add_(1)
        taken = 1 / float(norm.num_batches_tracked) if norm.momentum is None else float(norm.momentum)
    group = together(norm.process_group) if norm.synchronized and norm.training else None
    return Norm(
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        taken,
        by_batch,
        None if group is None else Shared(group),
    )
