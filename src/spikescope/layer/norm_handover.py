"""How a batch normalisation leaves its work to the neuron after it, so that both are one run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..internals import checkpoint_at_work, is_ordinary, is_plain, is_undisturbed, next_in_a_row
from ..neuron import PointwiseNeuron
from ..neuron.fast.after_norm import Norm, admits, give, give_again, known_way
from ..sockets import is_bare
from .fold import is_expanded
from .sync import Shared, together

__all__ = ["hand_over"]


def hand_over(norm: Any, x: Tensor) -> bool:
    """Leave the normalisation of `x` to the neuron that is called next, and say whether that is so.

    It is where an `nn.Sequential` calls the two, one right after the other, on a GPU, and nobody sees what is between
    them: no hook, no monitor, no compiler. In all other calls the normalisation does its work itself.
    """
    if not (type(x) is Tensor and is_undisturbed()):
        return False
    node = next_in_a_row(norm)
    mode = norm._step_mode
    if not isinstance(node, PointwiseNeuron) or node._step_mode != mode:
        return False
    if (
        not is_bare(norm)  # of hooks of all modules the neuron is asked
        or (norm.training and not torch.is_grad_enabled())  # maybe in a checkpoint, which runs both again, apart
        or checkpoint_at_work(norm.training or node.training) is not None  # both remember where they start
    ):
        return False
    held = _norm(norm)
    known = known_way(node, held, x)
    if (known is None and not is_ordinary(x)) or (mode == "m" and is_expanded(x, norm)):
        return False
    if known is not None:
        give_again(node, held, x, known)
        return True
    norm._check_axes(x)
    if not _fits(norm, held, x) or not admits(node, x):
        return False
    give(node, held, x)
    return True


def _fits(norm: Any, held: Norm, x: Tensor) -> bool:
    """Whether a kernel can take the channels of the input and what the normalisation holds of each, as they are."""
    channels, place = x.shape[1 if norm.step_mode == "s" else 2], x.get_device()
    rows = [each for each in (held.weight, held.bias, held.mean, held.variance) if each is not None]
    return (
        is_plain(*rows, held.tracked)
        and channels == norm.num_features
        and x.numel() > channels * held.by_batch  # of one value there is no variance, which PyTorch says
        and (held.weight is None) is (held.bias is None)
        and all(each.shape == (channels,) and each.is_contiguous() for each in rows)
        and all(each.get_device() == place for each in (*rows, held.tracked) if each is not None)
    )


def _norm(norm: Any) -> Norm:
    """The normalisation as a run takes it, which counts the batch where the normalisation would."""
    weight, bias, mean, variance, count = _tensors(norm)
    training, tracked, taken = norm.training, None, 0.0
    if training and norm.track_running_stats and mean is not None:
        tracked, momentum = count, norm.momentum
        if momentum is not None:
            taken = float(momentum)
        elif tracked is not None:
            taken = 1 / (float(tracked) + 1)
    group = together(norm.process_group) if training and norm.synchronized else None
    return Norm(
        weight,
        bias,
        mean,
        variance,
        tracked,
        norm.eps,
        taken,
        training or mean is None or variance is None,
        None if group is None else Shared(group),
    )


def _tensors(norm: Any) -> Sequence[Any]:
    """What it holds of each channel, and its count. PyTorch finds these for an attribute when it has looked everywhere
    else.
    """
    parameters, buffers = norm._parameters, norm._buffers
    try:
        return [*map(parameters.__getitem__, _LEARNED), *map(buffers.__getitem__, _TRACKED)]
    except KeyError:  # somebody has put an attribute in the place of one
        return [getattr(norm, name) for name in (*_LEARNED, *_TRACKED)]


_LEARNED = "weight", "bias"
_TRACKED = "running_mean", "running_var", "num_batches_tracked"
