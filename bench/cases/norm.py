"""Batch normalisation before a neuron: inside the kernel of the neuron against a layer of its own.

For inference `functional.fuse_bn_neuron` makes the normalisation a scale and a shift of the input. In training the
statistics have to be known first, and their gradient comes after: the second row shows what it costs to put the same
scale and shift, with gradients, into the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikescope import functional, layer, neuron

from ..harness import Options, Row, agreement, measure

__all__ = ["rows"]


def _pair(channels: int) -> tuple[layer.BatchNorm2d, neuron.LIFNode]:
    norm, node = layer.BatchNorm2d(channels, step_mode="m"), neuron.LIFNode(step_mode="m")
    with torch.no_grad():
        norm.weight.fill_(1.5)
        norm.bias.fill_(0.5)
    return norm, node


def _inference(x_seq: Tensor) -> dict[str, Callable[[], Any]]:
    norm, node = _pair(x_seq.shape[2])
    norm(x_seq)  # gives it statistics
    norm.eval()
    fused = functional.fuse_bn_neuron(norm, node)

    def apart() -> Tensor:
        node.reset()
        with torch.no_grad():
            y: Tensor = node(norm(x_seq))
        return y

    def together() -> Tensor:
        fused.reset()
        with torch.no_grad():
            y: Tensor = fused(x_seq)
        return y

    return {"ours": together, "BatchNorm2d, then LIF": apart}


def _training(x_seq: Tensor) -> dict[str, Callable[[], Any]]:
    x_seq, g = x_seq.requires_grad_(), torch.randn_like(x_seq)
    norm, node = _pair(x_seq.shape[2])
    weight, bias = norm.weight, norm.bias

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return (y, *torch.autograd.grad(y, (x_seq, weight, bias), g))

    def apart() -> tuple[Tensor, ...]:
        node.reset()
        return gradients(node(norm(x_seq)))

    def together() -> tuple[Tensor, ...]:
        inside.reset()
        variance, mean = torch.var_mean(x_seq, (0, 1, 3, 4), correction=0)
        scale = weight * torch.rsqrt(variance + norm.eps)
        inside.x_scale, inside.x_shift = scale.view(-1, 1, 1), (bias - mean * scale).view(-1, 1, 1)
        return gradients(inside(x_seq))

    inside = neuron.LIFNode(step_mode="m")
    return {"ours": apart, "scale and shift in the kernel": together}


def rows(options: Options) -> Iterator[Row]:
    """Inference fused and apart, then training apart and fused."""
    torch.manual_seed(0)
    shape = 4, 32, options.size(32, 8), 28, 28
    case = "BatchNorm2d + LIF, [{}, {}, {}, {}, {}]".format(*shape)
    for what, make in (("inference", _inference), ("training: forward + backward", _training)):
        work = make(torch.randn(shape))
        ours, other = work
        made = [held if isinstance(held, tuple) else (held,) for held in (work[ours](), work[other]())]
        yield from measure("norm", case, what, work, {other: agreement(*made)}, options)
