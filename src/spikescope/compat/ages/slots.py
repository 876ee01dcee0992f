"""Counts of spikes as single spikes: a network of `ILIFNode`s trained on counts runs on spikes of 0 and 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...base import MultiStepModule
from ...errors import ShapeError, check_floating, check_switches, check_whole, dims

__all__ = ["SpikeCountToBinary", "TemporalBinSum"]


class _Slots(nn.Module, MultiStepModule):
    """A time step as `num_slots` steps: in evaluation, or always.

    - `num_slots`: the steps that one is spread over, at least the largest count.
    - `always_convert`: whether it does so in training, too.
    """

    def __init__(self, num_slots: int, always_convert: bool = False) -> None:
        super().__init__()
        self.num_slots = check_whole(type(self).__name__, "num_slots", num_slots)
        check_switches(type(self).__name__, always_convert=always_convert)
        self.always_convert = always_convert

    def _convert(self, x_seq: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x_seq: Tensor) -> Tensor:
        """A sequence `[T, N, *]`; in training as it is, unless `always_convert` says otherwise."""
        if self.training and not self.always_convert:
            return x_seq
        check_floating(type(self).__name__, x_seq)
        if x_seq.ndim < 2 or not len(x_seq):
            raise ShapeError(
                f"{type(self).__name__} takes a sequence [T, N, *] of at least one step, but got {dims(x_seq.shape)}."
            )
        return self._convert(x_seq)

    def extra_repr(self) -> str:
        return f"num_slots={self.num_slots}, always_convert={self.always_convert}"


class SpikeCountToBinary(_Slots):
    r"""Spreads counts `[T, N, *]` over slots of single spikes, `[T num_slots, N, *]`; the first ones are filled.

    $$S_{tD + d} = 1 \text{ if } d < n_t \text{ else } 0$$

    The gradient of each slot is a part `1 / num_slots` of that of the count.

    Luo et al., *Integer-valued training and spike-driven inference spiking neural network* (ECCV 2024).

    >>> SpikeCountToBinary(3).eval()(torch.tensor([[2.0], [0.0]])).flatten()
    tensor([1., 1., 0., 0., 0., 0.])
    """

    def _convert(self, x_seq: Tensor) -> Tensor:
        slot = torch.arange(self.num_slots, device=x_seq.device).view(-1, *[1] * (x_seq.ndim - 1))
        counts = x_seq.unsqueeze(1)
        share = counts / self.num_slots
        return ((slot < counts).to(x_seq.dtype) + (share - share.detach())).flatten(0, 1)


class TemporalBinSum(_Slots):
    """Sums each `num_slots` steps to one, so that `[T num_slots, N, *]` becomes `[T, N, *]`; the last may be fewer.

    Luo et al., *Integer-valued training and spike-driven inference spiking neural network* (ECCV 2024).

    >>> TemporalBinSum(3).eval()(torch.ones(5, 1)).flatten()
    tensor([3., 2.])
    """

    def _convert(self, x_seq: Tensor) -> Tensor:
        return torch.stack([part.sum(0) for part in x_seq.split(self.num_slots)])
