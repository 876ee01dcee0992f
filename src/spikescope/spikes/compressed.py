"""Packed spikes compressed in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import missing_extra
from .packed import PackedSpikes

__all__ = ["CompressedSpikes"]


@dataclass(frozen=True)
class CompressedSpikes:
    """Packed spikes as one Zstandard frame, with the bits of each train together.

    - `frame`: the compressed bytes; shape and dtype are beside it.

    Needs the extra `storage`. A damaged frame is a ValueError.

    >>> train = PackedSpikes.from_dense(torch.zeros(1000, 1, 80))
    >>> small = train.compress()
    >>> train.nbytes, small.nbytes < 50, small.decompress() == train
    (10000, True, True)
    """

    frame: bytes
    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, spikes: PackedSpikes, level: int = 1) -> CompressedSpikes:
        """Compress; a higher `level`, up to 22, takes longer and gains a few percent."""
        held = spikes.to("time").bits.cpu().numpy().tobytes()
        frame = _zstandard().ZstdCompressor(level=level, write_checksum=True).compress(held)
        return cls(frame, spikes.shape, spikes.dtype)

    @property
    def nbytes(self) -> int:
        """The size of the frame in bytes."""
        return len(self.frame)

    def decompress(self) -> PackedSpikes:
        """The packed spikes, in the order `"time"`, on the CPU."""
        zstandard = _zstandard()
        try:
            held = zstandard.ZstdDecompressor().decompress(self.frame)
        except zstandard.ZstdError as error:
            raise ValueError(f"CompressedSpikes: the frame is damaged: {error}.") from error
        trains = self.shape[1:].numel()
        bits = torch.from_numpy(np.frombuffer(bytearray(held), dtype=np.uint8).reshape(trains, -(-self.shape[0] // 8)))
        return PackedSpikes(bits, self.shape, self.dtype, order="time")


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise missing_extra("zstandard", "storage", "Compressed spikes") from error
    return zstandard
