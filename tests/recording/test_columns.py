"""The kernels of tiles do what NumPy and zlib do, byte for byte, and tell the same of damage."""

import zlib

import numpy as np
import pytest

from spikescope.recording.disk import columns
from spikescope.recording.disk.columns import SMALL, STRIDE, join_tiles, make_tiles
from spikescope.toolchain.compiler import trouble

WIDTHS = [*range(1, 21), 31, 32, 33, 64, 200]
SEED = 0xFFFFFF00  # the seeds of some tiles are beyond 32 bits


@pytest.fixture(autouse=True)
def with_kernels():
    if trouble():
        pytest.skip(trouble())


def rows_of(width, height, count, beside=3):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 256, (height, count * width + beside), dtype=np.uint8)
    rows[:, :width] = 0  # a silent tile
    return rows


def expected(rows, width, count):
    tiles = []
    for number in range(count):
        part = np.ascontiguousarray(rows[:, number * width : (number + 1) * width]).tobytes()
        tiles.append(part + zlib.crc32(part, (SEED + number * STRIDE) & 0xFFFFFFFF).to_bytes(4, "little"))
    return np.frombuffer(b"".join(tiles), np.uint8).reshape(count, -1)


@pytest.mark.parametrize("width", WIDTHS)
def test_tiles_are_those_of_numpy_and_zlib(width):
    for height in (1, 3, 8, 67, 128):
        count = -(-SMALL // (width * height)) + 3
        rows = rows_of(width, height, count)
        tiles = np.full((count, height * width + 4), 7, np.uint8)
        assert make_tiles(rows, tiles, width, SEED)
        assert np.array_equal(tiles, expected(rows, width, count))
        back = np.full_like(rows, 9)
        assert join_tiles(tiles, back, width, SEED) == -1
        assert np.array_equal(back[:, : count * width], rows[:, : count * width])
        assert (back[:, count * width :] == 9).all()  # nothing beside it is touched


@pytest.mark.parametrize("width", [1, 7, 16, 200])
def test_a_bit_that_is_not_as_it_was_written_is_told_with_its_tile(width):
    count = -(-SMALL // (width * 9)) + 2
    whole = expected(rows_of(width, 9, count), width, count)
    back = np.empty((9, count * width), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(200):
        tiles, number = whole.copy(), int(rng.integers(count))
        tiles[number, rng.integers(tiles.shape[1])] ^= 1 << rng.integers(8)
        assert join_tiles(tiles, back, width, SEED) == number
    assert join_tiles(whole, back, width, SEED + 1) == 0
    swapped = whole[[1, 0, *range(2, count)]]
    assert join_tiles(swapped, back, width, SEED) == 0


def test_small_and_scattered_ones_are_left_to_numpy(monkeypatch):
    def never(*_):
        raise AssertionError("a kernel is loaded")

    monkeypatch.setattr(columns, "_kernel", never)
    small = np.empty((2, 12), np.uint8)
    assert not make_tiles(rows_of(4, 2, 2), small, 4, SEED)
    assert join_tiles(small, np.empty((2, 8), np.uint8), 4, SEED) is None
    scattered = np.empty((4096, 24), np.uint8)[:, ::2]
    assert not make_tiles(rows_of(4, 2, 4096), scattered, 4, SEED)
