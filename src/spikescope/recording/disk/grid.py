"""A run, or a part of one, as tiles: each small enough that a cut in time, samples or neurons reads little else.

The values `[T, N, M]` of M neurons are cut into tiles of at most `tile` steps, samples and neurons. The tiles lie one
after the other, first along time, then along samples, then along neurons; within a tile the neurons of a sample are
neighbours, then come its samples, then its steps. A neuron takes the bytes of its dtype, little endian; where they are
`packed`, the neurons of one step and sample take a bit each, least significant first, filled up to whole bytes. After
each tile come 4 bytes of CRC-32, begun from the sum that the record begins from plus the number of the tile times
`STRIDE`: no tile fits in the place of another.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...spikes import PackedSpikes
from ..events import Whole
from .columns import STRIDE, join_tiles, make_tiles

__all__ = ["Grid", "Tiles", "cuts"]

SUM = 4
LEAST = 1 << 9
"""Bytes of a tile, if there are so many: smaller ones take more for their sums than they save."""
MOST = 200
"""Cuts along an axis: a hundredth of it touches at most three tiles, 1.5 percent."""
LONG = 64
"""What is shorter is not cut: a hundredth of it is less than one."""

Bytes = NDArray[np.uint8]
Reader = Callable[[int, int], bytes | bytearray | memoryview]
"""Gives the bytes from a place on, so many."""


def cuts(steps: int, samples: int, neurons: int, packed: bool, itemsize: int) -> tuple[int, int, int]:
    """The steps, samples and neurons of a tile: cut first along a long time, then neurons, then many samples.

    >>> cuts(4, 32, 10816, True, 4), cuts(20_000, 1, 400, True, 4)
    ((4, 32, 56), (100, 1, 48))
    """
    size = steps * samples * (-(-neurons // 8) if packed else neurons * itemsize)
    left = max(1, size // LEAST)
    units = -(-neurons // 8) if packed else neurons
    in_time = min(MOST, steps, left) if steps >= LONG else 1
    left //= max(1, in_time)
    along = min(MOST, units, left)
    left //= max(1, along)
    in_samples = min(MOST, samples, left) if samples >= LONG else 1
    width = _share(units, along) * (8 if packed else 1)
    return _share(steps, in_time), _share(samples, in_samples), max(1, min(width, max(1, neurons)))


def _share(size: int, parts: int) -> int:
    return max(1, -(-size // max(1, parts)))


@dataclass(frozen=True)
class Grid:
    """How the values of a signal lie in a file."""

    signal: str
    dtype: torch.dtype
    packed: bool
    shape: tuple[int, ...]  # [T, N, *F]
    tile: tuple[int, int, int]

    @cached_property
    def neurons(self) -> int:
        return math.prod(self.shape[2:])

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """The tiles along time, samples and neurons."""
        sizes = (*self.shape[:2], self.neurons)
        return tuple(-(-size // part) for size, part in zip(sizes, self.tile, strict=True))  # type: ignore[return-value]

    def width(self, neurons: int) -> int:
        """The bytes of the neurons of one step and sample."""
        return -(-neurons // 8) if self.packed else neurons * self.dtype.itemsize

    @cached_property
    def row(self) -> int:
        """The bytes of all neurons of one step and sample, tile by tile."""
        full, rest = divmod(self.neurons, self.tile[2])
        return full * self.width(self.tile[2]) + self.width(rest)

    @cached_property
    def nbytes(self) -> int:
        """The bytes of all tiles and their sums."""
        return self.shape[0] * self.shape[1] * self.row + SUM * math.prod(self.counts)

    def check(self) -> None:
        """Refuse what no writer makes."""
        if len(self.shape) < 2 or any(part < 1 for part in self.tile):
            raise ValueError(f"there is no grid of {self.shape} in tiles of {self.tile}")
        if self.packed and self.tile[2] % 8 and self.tile[2] < self.neurons:
            raise ValueError(f"tiles of {self.tile[2]} bits do not end with a byte")

    def place(self, time: int, sample: int, neuron: int) -> tuple[int, int]:
        """Where the tile of these numbers begins, and its number."""
        steps, samples = self.shape[:2]
        in_time, in_samples, _ = self.counts
        number = (neuron * in_samples + sample) * in_time + time
        wide = self.width(self.tile[2])
        here = self.width(self.size(2, neuron))
        above = neuron * steps * samples * wide
        beside = sample * self.tile[1] * steps * here
        before = time * self.tile[0] * self.size(1, sample) * here
        return above + beside + before + SUM * number, number

    def size(self, axis: int, number: int) -> int:
        """The steps, samples or neurons of the tile of this number along an axis."""
        whole = (self.shape[0], self.shape[1], self.neurons)[axis]
        return min(self.tile[axis], whole - number * self.tile[axis])

    def read(
        self, read: Reader, seed: int, steps: range, samples: range, neurons: Whole | None
    ) -> Tensor | PackedSpikes:
        """The values of some steps, samples and neurons; a ValueError for a tile that is not as it was written."""
        shape = (len(steps), len(samples), *(self.shape[2:] if neurons is None else (len(neurons),)))
        if not math.prod(shape):
            return self._made(np.zeros((*shape[:2], self.width(math.prod(shape[2:]))), np.uint8), shape)
        if neurons is None:
            if len(steps) * len(samples) == self.shape[0] * self.shape[1]:
                read = _out_of(read(0, self.nbytes))
                if self.counts[:2] == (1, 1):
                    return self._made(self._columns(read, seed), shape)
            return self._made(self._cut(read, seed, steps, samples, np.arange(self.counts[2])), shape)
        groups, inverse = np.unique(neurons // self.tile[2], return_inverse=True)
        held = self._cut(read, seed, steps, samples, groups)
        at = inverse * self.tile[2] + neurons % self.tile[2]
        if self.packed:
            some = np.unpackbits(held, axis=2, bitorder="little")[:, :, at]
            return self._made(np.packbits(some, axis=2, bitorder="little"), shape)
        items = held.reshape(*shape[:2], held.shape[2] // self.dtype.itemsize, self.dtype.itemsize)
        return self._made(items[:, :, at], shape)

    def _cut(self, read: Reader, seed: int, steps: range, samples: range, groups: Whole) -> Bytes:
        """The bytes of whole groups of neurons, `[t, n, width]`."""
        wide = self.width(self.tile[2])
        made = np.empty((len(steps), len(samples), sum(self.width(self.size(2, int(g))) for g in groups)), np.uint8)
        times, batch = _touched(steps, self.tile[0]), _touched(samples, self.tile[1])
        per_time = [_inside(steps, time, self.tile[0]) for time in times]
        per_sample = [_inside(samples, sample, self.tile[1]) for sample in batch]
        for at, group in enumerate(map(int, groups)):
            here = self.width(self.size(2, group))
            for sample, (to_sample, from_sample) in zip(batch, per_sample, strict=True):
                for time, (to_time, from_time) in zip(times, per_time, strict=True):
                    tile = self._tile(read, seed, time, sample, group).reshape(-1, self.size(1, sample), here)
                    made[to_time, to_sample, at * wide : at * wide + here] = tile[from_time, from_sample]
        return made

    def _columns(self, read: Reader, seed: int) -> Bytes:
        """The bytes of all values where tiles are cut along the neurons alone: all of one width at once."""
        steps, samples = self.shape[:2]
        wide, full = self.width(self.tile[2]), self.neurons // self.tile[2]
        made = np.empty((steps * samples, self.row), np.uint8)
        size = steps * samples * wide
        held = np.frombuffer(read(0, full * (size + SUM)), np.uint8).reshape(full, size + SUM)
        wrong = join_tiles(held, made, wide, seed)
        if wrong is None:
            for number in range(full):
                self._tile(read, seed, 0, 0, number)
            item = np.dtype((np.void, wide))  # one copy moves the neurons of a tile in one piece
            if full:
                made[:, : full * wide].view(item)[:] = held[:, :size].view(item).T
        elif wrong >= 0:
            raise _damaged(wrong)
        if full < self.counts[2]:
            made[:, full * wide :] = self._tile(read, seed, 0, 0, full).reshape(steps * samples, -1)
        return made.reshape(steps, samples, self.row)

    def _tile(self, read: Reader, seed: int, time: int, sample: int, group: int) -> Bytes:
        start, number = self.place(time, sample, group)
        size = self.size(0, time) * self.size(1, sample) * self.width(self.size(2, group))
        held = memoryview(read(start, size + SUM))
        if zlib.crc32(held[:size], _seed(seed, number)) != int.from_bytes(held[size:], "little"):
            raise _damaged(number)
        return np.frombuffer(held[:size], np.uint8)

    def whole(self, held: bytes | bytearray, seed: int) -> Tensor | PackedSpikes:
        """All values of their bytes."""
        return self.read(_out_of(held), seed, range(self.shape[0]), range(self.shape[1]), None)

    def _made(self, held: Bytes, shape: tuple[int, ...]) -> Tensor | PackedSpikes:
        """The value of rows of bytes `[t, n, width]`."""
        count = math.prod(shape[2:])
        if not self.packed:
            flat = torch.from_numpy(np.ascontiguousarray(held).reshape(-1))
            if self.dtype is torch.bool:
                return (flat != 0).reshape(shape)  # a byte of 7 is no bool
            return (
                flat.view(self.dtype).reshape(shape)
                if flat.numel()
                else torch.empty(shape, dtype=self.dtype, device="cpu")
            )
        if count % 8:
            some = np.unpackbits(held, axis=2, bitorder="little")[:, :, :count].reshape(shape[0], shape[1] * count)
            held = np.packbits(some, axis=1, bitorder="little")
        bits = torch.from_numpy(np.ascontiguousarray(held).reshape(shape[0], -(-shape[1] * count // 8)))
        return PackedSpikes(bits, torch.Size(shape), self.dtype)


def _out_of(held: bytes | bytearray | memoryview) -> Reader:
    view = memoryview(held)
    return lambda start, size: view[start : start + size]


def _damaged(number: int) -> ValueError:
    return ValueError(f"tile {number} is not as it was written")


def _seed(seed: int, number: int) -> int:
    return (seed + number * STRIDE) & 0xFFFFFFFF


def _touched(wanted: range, part: int) -> list[int]:
    """The tiles along an axis that hold some of what is wanted."""
    return sorted({place // part for place in wanted})


def _inside(wanted: range, tile: int, part: int) -> tuple[slice, slice]:
    """Of what is wanted along an axis the places that one tile has: where they go, and where they are in it."""
    at = [i for i, place in enumerate(wanted) if place // part == tile]
    first = wanted[at[0]] - tile * part
    return slice(at[0], at[-1] + 1), slice(first, first + wanted.step * (len(at) - 1) + 1, wanted.step)


class Tiles:
    """Values on their way into a file."""

    def __init__(self, signal: str, values: Tensor | PackedSpikes) -> None:
        self.grid = _grid_for(signal, values.dtype, isinstance(values, PackedSpikes), tuple(values.shape))
        self._rows = _rows_of_bits(values) if isinstance(values, PackedSpikes) else _rows_of_bytes(values)

    @property
    def nbytes(self) -> int:
        """The bytes in the file."""
        return self.grid.nbytes

    def pieces(self, seed: int) -> Iterator[memoryview]:
        """The bytes in their order, the sums among them."""
        grid = self.grid
        if not math.prod(grid.counts):
            return
        if grid.counts[:2] == (1, 1):
            yield from self._columns(seed)
            return
        steps, samples, _ = grid.tile
        for group in range(grid.counts[2]):
            start, width = group * grid.width(grid.tile[2]), grid.width(grid.size(2, group))
            for sample in range(grid.counts[1]):
                part = self._rows[:, sample * samples : (sample + 1) * samples, start : start + width]
                part = np.ascontiguousarray(part)
                for time in range(grid.counts[0]):
                    yield from _summed(
                        part[time * steps : (time + 1) * steps], _seed(seed, grid.place(time, sample, group)[1])
                    )

    def _columns(self, seed: int) -> Iterator[memoryview]:
        """Where tiles are cut along the neurons alone: all of one width at once."""
        grid = self.grid
        wide, full = grid.width(grid.tile[2]), grid.neurons // grid.tile[2]
        rows = self._rows.reshape(-1, self._rows.shape[2])
        size = len(rows) * wide
        made = np.empty((full, size + SUM), np.uint8)
        if not make_tiles(rows, made, wide, seed):
            item = np.dtype((np.void, wide))
            held = rows[:, : full * wide].view(item).T if full else np.empty((0, len(rows)), item)
            made[:, :size] = np.ascontiguousarray(held).view(np.uint8).reshape(full, size)
            sums = [zlib.crc32(made[number, :size].data, _seed(seed, number)) for number in range(full)]
            made[:, size:] = np.array(sums, "<u4").view(np.uint8).reshape(full, SUM)
        yield made.reshape(-1).data
        if full < grid.counts[2]:
            yield from _summed(np.ascontiguousarray(rows[:, full * wide :]), _seed(seed, full))


@lru_cache(1024)  # a network has few shapes
def _grid_for(signal: str, dtype: torch.dtype, packed: bool, shape: tuple[int, ...]) -> Grid:
    tile = cuts(shape[0], shape[1], math.prod(shape[2:]), packed, dtype.itemsize)
    return Grid(signal, dtype, packed, shape, tile)


def _summed(part: Bytes, seed: int) -> Iterator[memoryview]:
    held = np.ascontiguousarray(part).reshape(-1)
    yield held.data
    yield memoryview(zlib.crc32(held.data, seed).to_bytes(SUM, "little"))


def _rows_of_bits(spikes: PackedSpikes) -> Bytes:
    """`[T, N, bytes]`: the neurons of each step and sample begin a byte."""
    steps, samples, *shape = spikes.shape
    neurons = math.prod(shape)
    held: Any = spikes.to("step").bits.cpu().numpy()
    if neurons % 8:
        some = np.unpackbits(held, axis=1, bitorder="little")[:, : samples * neurons]
        held = np.packbits(some.reshape(steps, samples, neurons), axis=2, bitorder="little")
    return np.ascontiguousarray(held).reshape(steps, samples, -(-neurons // 8))


def _rows_of_bytes(values: Tensor) -> Bytes:
    plain = values.detach().cpu().resolve_conj().resolve_neg().contiguous()
    steps, samples = plain.shape[:2]
    return (
        plain.reshape(-1).view(torch.uint8).numpy().reshape(steps, samples, math.prod(plain.shape[2:]) * plain.itemsize)
    )
