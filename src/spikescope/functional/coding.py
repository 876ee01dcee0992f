"""Sequences and labels in other forms: delayed, reduced to the first spike, repeated per class."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from ..errors import ShapeError, check_sequence, check_tensor, check_whole, dims
from ..internals import readable

__all__ = ["delay", "first_spike_index", "redundant_one_hot"]


def delay(x_seq: Tensor, delay_steps: int) -> Tensor:
    r"""`x_seq` `[T, *]` later in time, of the same length: $y_t = x_{t-d}$, zero before anything has come.

    - `delay_steps`: $d \ge 0$; with $d \ge T$ nothing has come yet.

    >>> delay(torch.tensor([1.0, 2.0, 3.0]), 2)
    tensor([0., 0., 1.])
    """
    check_tensor("delay", "x_seq", x_seq)
    check_sequence("delay", x_seq)
    delay_steps = _whole("delay", "delay_steps", delay_steps, 0)
    steps = len(x_seq)
    empty = min(delay_steps, steps)
    return torch.cat((x_seq.new_zeros(empty, *x_seq.shape[1:]), x_seq[: steps - empty]))


def first_spike_index(spikes: Tensor) -> Tensor:
    """Where each neuron fires for the first time: a mask of the shape of `spikes` `[*, T]`, time last.

    Any value but zero is a spike; the row of a silent neuron is False throughout. There is no gradient.

    >>> first_spike_index(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    tensor([[False,  True, False],
            [False, False, False]])
    """
    check_tensor("first_spike_index", "spikes", spikes)
    if not spikes.ndim:
        raise ShapeError(f"first_spike_index takes spikes [*, T] with time last, but got {dims(spikes.shape)}.")
    fired = spikes.detach() != 0
    return fired & (fired.cumsum(-1) == 1)


def redundant_one_hot(labels: Tensor, num_classes: int, n: int) -> Tensor:
    """Labels `[N]` as targets for `n` output neurons per class: `[N, num_classes * n]`, ones at the label.

    The neurons of class c are those from `c * n` to `c * n + n - 1`, as `layer.VotingLayer` groups them.

    >>> redundant_one_hot(torch.tensor([1, 0]), num_classes=3, n=2)
    tensor([[0., 0., 1., 1., 0., 0.],
            [1., 1., 0., 0., 0., 0.]])
    """
    check_tensor("redundant_one_hot", "labels", labels)
    num_classes = _whole("redundant_one_hot", "num_classes", num_classes, 1)
    n = _whole("redundant_one_hot", "n", n, 1)
    if labels.ndim != 1:
        raise ShapeError(f"redundant_one_hot takes labels [N], but got {dims(labels.shape)}.")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"redundant_one_hot takes labels of an integer dtype, but got {labels.dtype}.")
    if readable(labels) and not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"redundant_one_hot: labels must be from 0 to {num_classes - 1}, but got {labels.min()} to {labels.max()}."
        )
    classes = torch.arange(num_classes, device=labels.device).repeat_interleave(n)
    return (labels.unsqueeze(1) == classes).to(torch.get_default_dtype())


def _whole(owner: str, name: str, value: object, least: int) -> int:
    if not isinstance(value, (int, Integral)) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be a whole number, but got {value!r}.")
    return check_whole(owner, name, value, least)
