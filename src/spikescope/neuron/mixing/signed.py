"""Signed neurons that release a number step by step, within bounds on all that was released."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ...base import MemoryModule
from ...errors import ShapeError, check_floating, check_sequence, check_switches, check_whole

__all__ = ["STBIFNode", "stbif_multi_step", "stbif_step"]


def _scalar(given: Any) -> Tensor:
    return torch.as_tensor(given).detach().clone().float()


def stbif_step(
    x: Tensor, q: Tensor, acc_q: Tensor, q_threshold: Tensor, pos_max: Tensor, neg_min: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of `STBIFNode`: its output, and the next $q$, $A$ and $S$."""
    scale, held = q_threshold.to(x), acc_q.round()
    h = q + x / scale
    up = (h >= 1) & (held < pos_max.to(x))
    down = (h < 0) & (held > neg_min.to(x))
    spike = up.to(x.dtype) - down.to(x.dtype)
    return spike * scale, h - spike, held + spike, spike


def stbif_multi_step(
    x_seq: Tensor, q: Tensor, acc_q: Tensor, q_threshold: Tensor, pos_max: Tensor, neg_min: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`stbif_step` for each of at least one step `[T, N, *]`: the outputs, and the last state."""
    check_sequence("stbif_multi_step", x_seq)
    if not len(x_seq):
        raise ShapeError("stbif_multi_step: there is no step in the sequence. Give it at least one.")
    given, spike = [], q
    for x in x_seq:
        y, q, acc_q, spike = stbif_step(x, q, acc_q, q_threshold, pos_max, neg_min)
        given.append(y)
    return torch.stack(given), q, acc_q, spike


class STBIFNode(MemoryModule):
    r"""The bipolar neuron with a spike tracer, which quantises the sum of its inputs as a quantiser of an ANN does.

    $$h_t = q_{t-1} + X_t / s \qquad S_t = \Theta(h_t \ge 1)\,\Theta(A_{t-1} < a_{max}) -
      \Theta(h_t < 0)\,\Theta(A_{t-1} > a_{min})$$
    $$q_t = h_t - S_t \qquad A_t = A_{t-1} + S_t \qquad Y_t = s\, S_t, \qquad q_0 = \tfrac{1}{2},\ A_0 = 0$$

    It is for inference: no gradient goes through it.

    - `q_threshold`: the scale $s$ of the quantiser.
    - `level`: the number of its levels; `sym`: whether half of them are below 0.
    - `pos_max`, `neg_min`: $a_{max}$ and $a_{min}$, where they are not those of the levels.

    You et al., *SpikeZIP-TF: conversion is all you need for transformer-based SNN* (ICML 2024).

    >>> node = STBIFNode(0.5, level=4, step_mode="m")
    >>> node(torch.tensor([[1.2], [0.0], [-0.6], [0.0]])).flatten()  # 1.2, then 0.6 in all: two spikes, and one back
    tensor([ 0.5000,  0.5000, -0.5000,  0.0000])
    >>> node.accumulated
    tensor([0.5000])
    """

    q_threshold: Tensor
    pos_max: Tensor
    neg_min: Tensor
    q: Any
    acc_q: Any
    cur_output: Any

    def __init__(
        self,
        q_threshold: Any,
        level: int,
        sym: bool = False,
        pos_max: Any = None,
        neg_min: Any = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        check_switches("STBIFNode", sym=sym)
        self.level, self.sym = check_whole("STBIFNode", "level", level, 2), bool(sym)
        top = self.level // 2 - 1 if self.sym else self.level - 1
        bottom = -self.level // 2 if self.sym else 0
        self.register_buffer("q_threshold", _scalar(q_threshold))
        self.register_buffer("pos_max", _scalar(top if pos_max is None else pos_max))
        self.register_buffer("neg_min", _scalar(bottom if neg_min is None else neg_min))
        self.step_mode = step_mode
        for name in ("q", "acc_q", "cur_output"):
            self.register_memory(name, None)

    @classmethod
    def from_quantizer(cls, quantizer: nn.Module) -> Self:
        """The neuron of a quantiser that has a scale `s`, `sym`, `pos_max` and `neg_min`."""
        top, bottom = quantizer.pos_max, quantizer.neg_min
        level = getattr(quantizer, "level", int(_scalar(top)) - int(_scalar(bottom)) + 1)
        return cls(quantizer.s, int(level), bool(quantizer.sym), top, bottom)

    @property
    def accumulated(self) -> Tensor:
        """All that was released since the reset, in the units of the output."""
        if self.acc_q is None:
            raise RuntimeError("STBIFNode: nothing was released yet. Call it first.")
        held: Tensor = self.acc_q
        return held * self.q_threshold.to(held)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """One step `[N, *]`."""
        check_floating("STBIFNode", x)
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "STBIFNode: no gradient goes through it, and the input has one. Train the quantised network, and run "
                "this one under torch.no_grad()."
            )
        q = torch.full_like(x, 0.5) if self.q is None else self.fitting("q", x.shape).to(x)
        held = torch.zeros_like(x) if self.acc_q is None else self.fitting("acc_q", x.shape).to(x)
        y, self.q, self.acc_q, self.cur_output = stbif_step(x, q, held, self.q_threshold, self.pos_max, self.neg_min)
        return y
