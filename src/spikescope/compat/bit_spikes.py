"""Spikes as bits, by the names of SpikingJelly 2.0: the packing is that of `spikescope.spikes`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError, check_tensor, check_whole, dims
from ..spikes.bits import check_bits, pack, unpack

__all__ = ["bit_pack_spike_dense", "bit_spike_compress", "bit_spike_decompress", "packed_spike_linear"]


def bit_spike_compress(spike: Tensor) -> Tensor:
    """The bits of spikes of any shape, `[ceil(n / 8)]`: those of `spikes.float_spike_to_bool`.

    >>> bit_spike_compress(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))  # 2 + 4 + 8
    tensor([14], dtype=torch.uint8)
    """
    return pack(spike, "bit_spike_compress", rows=1).flatten()


def bit_spike_decompress(packed: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    """What `bit_spike_compress` packed.

    >>> bit_spike_decompress(torch.tensor([14], dtype=torch.uint8), (2, 2))
    tensor([[0, 1],
            [1, 1]], dtype=torch.uint8)
    """
    check_bits("bit_spike_decompress", packed, 1)
    shape = [check_whole("bit_spike_decompress", "each size in shape", size, 0) for size in torch.Size(shape)]
    size = math.prod(shape)
    if packed.numel() != -(-size // 8):
        raise ShapeError(
            f"bit_spike_decompress: the shape {dims(shape)} has {size} spikes, which take {-(-size // 8)} bytes, but "
            f"got {packed.numel()}."
        )
    return unpack(packed.view(1, -1), size, dtype).reshape(shape)


def bit_pack_spike_dense(spike: Tensor) -> Tensor:
    """The bits of each row of `[M, K]`, `[M, ceil(K / 8)]`."""
    check_tensor("bit_pack_spike_dense", "the spikes", spike)
    if spike.ndim != 2:
        raise ShapeError(f"bit_pack_spike_dense takes spikes [M, K], but got {dims(spike.shape)}.")
    return pack(spike, "bit_pack_spike_dense", rows=len(spike))


def packed_spike_linear(packed: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` of spikes that `bit_pack_spike_dense` packed.

    >>> packed_spike_linear(bit_pack_spike_dense(torch.tensor([[0.0, 1.0]])), torch.tensor([[2.0, 3.0]]))
    tensor([[3.]])
    """
    check_bits("packed_spike_linear", packed, 2)
    if weight.ndim != 2 or packed.shape[1] != -(-weight.shape[1] // 8):
        raise ShapeError(
            f"packed_spike_linear takes rows of ceil(K / 8) bytes for a weight [out, K], but got {dims(packed.shape)} "
            f"and {dims(weight.shape)}."
        )
    return F.linear(unpack(packed, weight.shape[1], weight.dtype), weight, bias)
