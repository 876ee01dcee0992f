"""A spike train as bits: one value that counts, cuts and compares without unpacking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, check_choice, check_sequence, check_tensor, dims, missing_extra
from .bits import check_bits, column_counts, pack, pack_bool, row_counts, unpack

__all__ = ["CompressedSpikes", "Order", "PackedSpikes", "Per"]

WINDOW = 1 << 23
"""Bytes that unpacking may take beside what comes out, as Zstandard advises its readers."""

Order = Literal["step", "time"]
Per = Literal["all", "step", "neuron"]


@dataclass(frozen=True, eq=False)
class PackedSpikes:
    """Spikes `[T, N, *]`, eight to the byte.

    - `order`: `"step"` keeps a row of `ceil(M / 8)` bytes for each of the T steps, M neurons and samples in a step:
      what a fused kernel writes, cheap to cut and to extend in time. `"time"` keeps a row of `ceil(T / 8)` bytes for
      each of the M trains, which compresses better. The bits that fill up a row are zero.
    - `bits`: the rows, uint8. They are held, not copied.

    Two are equal if shape, dtype and spikes are, in whichever order.

    >>> train = PackedSpikes.from_dense(torch.tensor([[[1.0, 0, 1]], [[0.0, 0, 1]]]))
    >>> train
    PackedSpikes([T=2, N=1, 3], torch.float32, order='step', 2 bytes)
    >>> train.bits.flatten(), train.count("neuron"), train.rate()
    (tensor([5, 4], dtype=torch.uint8), tensor([1, 0, 2]), 0.5)
    >>> train[1:].dense()
    tensor([[[0., 0., 1.]]])
    """

    bits: Tensor
    shape: torch.Size
    dtype: torch.dtype = torch.float32
    order: Order = "step"

    def __post_init__(self) -> None:
        check_choice("PackedSpikes", "order", self.order, ("step", "time"))
        check_bits("PackedSpikes", self.bits, 2)
        object.__setattr__(self, "shape", torch.Size(self.shape))
        if len(self.shape) < 2:
            raise ShapeError(f"PackedSpikes takes spikes [T, N, *] with time first, but got {dims(self.shape)}.")
        rows, columns = self._grid()
        if self.bits.shape != (rows, -(-columns // 8)):
            raise ShapeError(
                f"PackedSpikes: spikes {dims(self.shape, 'TN')} in the order {self.order!r} take bits of the shape "
                f"{dims((rows, -(-columns // 8)))}, but got {dims(self.bits.shape)}."
            )

    @classmethod
    def from_dense(cls, x_seq: Tensor, order: Order = "step") -> PackedSpikes:
        """Pack `[T, N, *]` of zeros and ones; another value is a ValueError."""
        check_tensor("PackedSpikes.from_dense", "the spikes", x_seq)
        check_sequence("PackedSpikes.from_dense", x_seq, least=2)
        bits = pack(x_seq, "PackedSpikes.from_dense", rows=len(x_seq))
        return cls(bits, x_seq.shape, x_seq.dtype).to(order)

    @classmethod
    def from_rows(cls, bits: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> PackedSpikes:
        """Take over the rows of bits, one to the step, that a kernel wrote; bits past the end must be zero."""
        made = cls(bits, torch.Size(shape), dtype)
        made.check_end("PackedSpikes.from_rows")
        return made

    @classmethod
    def told(cls, bits: Tensor, shape: torch.Size, dtype: torch.dtype) -> PackedSpikes:
        """Those that a kernel has told, rows of bits to the step: what there is to check, it has made."""
        made: PackedSpikes = object.__new__(cls)
        made.__dict__.update(bits=bits, shape=shape, dtype=dtype, order="step")
        return made

    def check_end(self, owner: str) -> None:
        """Refuse bits that fill up a row and are not zero: they would be counted as spikes."""
        over = -self._grid()[1] % 8
        if over and bool((self.bits[:, -1] >> (8 - over)).any()):
            raise ValueError(
                f"{owner}: the last {over} bits of each row lie past the end of {dims(self.shape, 'TN')} "
                "and must be 0, but some are 1. Check the shape."
            )

    @classmethod
    def concat(cls, parts: Sequence[PackedSpikes]) -> PackedSpikes:
        """Join parts of equal step shape and dtype one after the other in time; the order is that of the first."""
        if not parts:
            raise ValueError("PackedSpikes.concat joins at least one part, but got none.")
        first = parts[0]
        for part in parts:
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise ShapeError(
                    f"PackedSpikes.concat joins parts of one step shape and dtype, but got "
                    f"{dims(first.shape, 'TN')} of {first.dtype} and {dims(part.shape, 'TN')} of {part.dtype}."
                )
        bits = torch.cat([part.to("step").bits for part in parts])
        shape = torch.Size((len(bits), *first.shape[1:]))
        return cls(bits, shape, first.dtype).to(first.order)

    @property
    def nbytes(self) -> int:
        """The size of the bits in bytes."""
        return self.bits.numel()

    def dense(self) -> Tensor:
        """The spikes as a tensor of their shape and dtype."""
        held = unpack(self.bits, self._grid()[1], self.dtype)
        return (held if self.order == "step" else held.T).reshape(self.shape)

    def to(self, order: Order) -> PackedSpikes:
        """The same spikes in another order of the bits."""
        check_choice("PackedSpikes.to", "order", order, ("step", "time"))
        if order == self.order:
            return self
        turned = unpack(self.bits, self._grid()[1], torch.bool).T
        return replace(self, bits=pack_bool(turned), order=order)

    def count(self, per: Per = "all") -> Tensor:
        """The number of spikes: of all, of each step `[T]`, or of each neuron over time and samples `[*]`."""
        check_choice("PackedSpikes.count", "per", per, ("all", "step", "neuron"))
        if per == "all":
            return row_counts(self.bits).sum()
        if (per == "step") == (self.order == "step"):
            counts = row_counts(self.bits)
        elif per == "neuron" and (neurons := math.prod(self.shape[2:])) and neurons % 8 == 0:
            rows = self.bits.reshape(-1, neurons // 8)  # a sample is whole bytes: its bits are a row of their own
            return column_counts(rows, neurons).view(self.shape[2:])
        else:
            counts = column_counts(self.bits, self._grid()[1])
        return counts if per == "step" else counts.view(self.shape[1:]).sum(0)

    @overload
    def rate(self, per: Literal["all"] = "all") -> float: ...
    @overload
    def rate(self, per: Literal["step", "neuron"]) -> Tensor: ...
    def rate(self, per: Per = "all") -> float | Tensor:
        """Spikes per step and neuron, as `count` groups them; NaN where there is nothing to count."""
        counts = self.count(per).double()
        rates = counts / (math.prod(self.shape) / max(counts.numel(), 1))
        return rates.item() if per == "all" else rates

    def compress(self, level: int = 1) -> CompressedSpikes:
        """The spikes compressed by Zstandard, in the order `"time"`; needs the extra `storage`."""
        return CompressedSpikes.of(self, level)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[t] for t in range(len(self)))

    @overload
    def __getitem__(self, key: int) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice) -> PackedSpikes: ...
    def __getitem__(self, key: int | slice) -> Tensor | PackedSpikes:
        """One step as a tensor `[N, *]`, or a slice in time as packed spikes; only these steps are unpacked."""
        if isinstance(key, (int, Integral)):
            key = int(key)
            if not -len(self) <= key < len(self):
                raise IndexError(f"PackedSpikes: there is no step {key}; there are {len(self)}.")
            start = key % len(self)
            return self[start : start + 1].dense()[0]
        if not isinstance(key, slice):
            raise TypeError(
                f"PackedSpikes takes a step or a slice of steps, train[3] or train[2:8], but got {key!r}. "
                "Other axes are cut after dense()."
            )
        steps = range(*key.indices(len(self)))
        bits = self._rows(steps) if self.order == "step" else self._columns(steps)
        return replace(self, bits=bits, shape=torch.Size((len(steps), *self.shape[1:])))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedSpikes):
            return NotImplemented
        same = (self.shape, self.dtype) == (other.shape, other.dtype)
        return same and torch.equal(self.bits, other.to(self.order).bits)

    __hash__ = None  # type: ignore[assignment]  # a value that holds a tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bits, self.shape, self.dtype, self.order)  # made, and so checked, when it is read

    def __repr__(self) -> str:
        return f"PackedSpikes({dims(self.shape, 'TN')}, {self.dtype}, order={self.order!r}, {self.nbytes} bytes)"

    def _grid(self) -> tuple[int, int]:
        """Rows and columns of the spikes: steps and trains, or trains and steps."""
        steps, trains = self.shape[0], math.prod(self.shape[1:])
        return (steps, trains) if self.order == "step" else (trains, steps)

    def _rows(self, steps: range) -> Tensor:
        if steps.step == 1:
            return self.bits[steps.start : max(steps.start, steps.stop)]
        return self.bits[torch.tensor(steps, dtype=torch.int64, device=self.bits.device)]

    def _columns(self, steps: range) -> Tensor:
        """The rows of bits of some steps: the bytes that hold them, unpacked, cut and packed again."""
        if not steps:
            return self.bits[:, :0]
        first, last = min(steps) // 8, max(steps) // 8 + 1
        held = unpack(self.bits[:, first:last], 8 * (last - first), torch.bool)
        return pack_bool(held[:, torch.tensor(steps, dtype=torch.int64, device=held.device) - 8 * first])


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", torch.Size(self.shape))
        if len(self.shape) < 2 or min(self.shape) < 0:
            raise ShapeError(f"CompressedSpikes takes spikes [T, N, *] with time first, but got {dims(self.shape)}.")

    @classmethod
    def of(cls, spikes: PackedSpikes, level: int = 1) -> CompressedSpikes:
        """Compress; a higher `level`, up to 22, takes longer and gains a few percent."""
        held = spikes.to("time").bits.cpu().numpy().tobytes()
        frame = _zstandard().ZstdCompressor(level=level, write_checksum=True).compress(held)
        return cls(frame, spikes.shape, spikes.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.frame, self.shape, self.dtype)

    @property
    def nbytes(self) -> int:
        """The size of the frame in bytes."""
        return len(self.frame)

    def decompress(self) -> PackedSpikes:
        """The packed spikes, in the order `"time"`, on the CPU."""
        zstandard = _zstandard()
        trains, width = self.shape[1:].numel(), -(-self.shape[0] // 8)
        wanted = trains * width
        try:
            stated = zstandard.get_frame_parameters(self.frame).content_size
            if stated not in (wanted, zstandard.CONTENTSIZE_UNKNOWN):
                raise ValueError(
                    f"CompressedSpikes: spikes {dims(self.shape, 'TN')} take {wanted} bytes, but the frame says that "
                    f"it holds {stated}. It is damaged, or the shape is of other spikes."
                )
            unpacking = zstandard.ZstdDecompressor(max_window_size=max(WINDOW, 2 * wanted))
            held = unpacking.decompress(self.frame, max_output_size=wanted, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(f"CompressedSpikes: the frame is damaged: {error}.") from error
        if len(held) != wanted:
            raise ValueError(
                f"CompressedSpikes: the frame is damaged: {len(held)} bytes came out of it where spikes "
                f"{dims(self.shape, 'TN')} take {wanted}."
            )
        bits = torch.from_numpy(np.frombuffer(bytearray(held), dtype=np.uint8).reshape(trains, width))
        made = PackedSpikes(bits, self.shape, self.dtype, order="time")
        made.check_end("CompressedSpikes")
        return made


torch.serialization.add_safe_globals([PackedSpikes, CompressedSpikes])  # `torch.load` reads them as it is


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise missing_extra("zstandard", "storage", "Compressed spikes") from error
    return zstandard
