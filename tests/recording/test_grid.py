"""Tiles: what goes in comes out, in whatever cut, from little more than the bytes that were asked for."""

import numpy as np
import pytest
import torch

from spikescope.recording.disk import columns
from spikescope.recording.disk.grid import LEAST, Tiles, cuts
from spikescope.spikes import PackedSpikes

SHAPES = [
    (steps, samples, *neurons)
    for steps in (0, 1, 4, 130)
    for samples in (0, 1, 3, 80)
    for neurons in ((), (0,), (5,), (3, 7), (64,), (2, 40, 3), (300,))
]
KINDS = {
    "packed": lambda x: PackedSpikes.from_dense((x < 0.3).float()),
    "float32": lambda x: x,
    "bfloat16": lambda x: x.bfloat16(),
    "bool": lambda x: x < 0.5,
    "int64": lambda x: (x * 1000).long(),
}
SEED = 4242


def dense(values):
    return values.dense() if isinstance(values, PackedSpikes) else values


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_in_comes_out(kind):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = KINDS[kind](torch.rand(*shape, generator=torch.Generator().manual_seed(1)))
        tiles = Tiles("v", x)
        held = b"".join(tiles.pieces(SEED))
        assert len(held) == tiles.nbytes
        whole = tiles.grid.whole(held, SEED)
        assert (type(whole), whole.dtype) == (type(x), x.dtype)
        assert torch.equal(dense(whole), dense(x)), tiles.grid
        steps, samples, count = *shape[:2], tiles.grid.neurons
        if not (steps and samples and count):
            continue
        for stride in (1, 3):
            some = range(steps)[rng.integers(steps) :: stride]
            batch = range(samples)[rng.integers(samples) :]
            neurons = rng.integers(count, size=4)
            part = tiles.grid.read(lambda start, size: held[start : start + size], SEED, some, batch, neurons)  # noqa: B023
            flat = dense(x).reshape(steps, samples, count)
            assert torch.equal(dense(part), flat[list(some)][:, list(batch)][:, :, neurons]), tiles.grid
            part = tiles.grid.read(lambda start, size: held[start : start + size], SEED, some, batch, None)  # noqa: B023
            assert torch.equal(dense(part), dense(x)[list(some)][:, list(batch)]), tiles.grid


@pytest.mark.parametrize("kind", ["packed", "float32"])
@pytest.mark.parametrize("shape", [(2000, 4, 2000), (4, 32, 16, 26, 26), (1, 1, 4_000_000), (20_000, 1, 400)], ids=str)
def test_a_hundredth_along_an_axis_reads_less_than_two(kind, shape):
    x = KINDS[kind](torch.rand(*shape))
    tiles = Tiles("v", x)
    held = b"".join(tiles.pieces(SEED))
    steps, samples, count = *shape[:2], tiles.grid.neurons
    everything = range(steps), range(samples), None
    cuts_of = [(range(steps // 3, steps // 3 + steps // 100), range(samples), None)] if steps >= 200 else []
    if steps < 200 or len(held) > 10 << 20:  # a long and narrow one is cut in time
        cuts_of.append((range(steps), range(samples), np.arange(count // 3, count // 3 + count // 100)))
    for cut in cuts_of:
        read = []

        def part(start, size):
            read.append(size)  # noqa: B023
            return held[start : start + size]

        values = tiles.grid.read(part, SEED, *cut)
        assert 0 < values.shape.numel() <= 0.0101 * x.shape.numel()
        assert sum(read) < 0.02 * len(held), (cut, tiles.grid)
    read = tiles.grid.read(lambda start, size: held[start : start + size], SEED, *everything)
    assert torch.equal(dense(read), dense(x))


def test_tiles_are_small_but_not_too_small():
    for steps, samples, neurons in [(4, 32, 10816), (1, 1, 9), (100_000, 1, 8), (4, 512, 100), (1000, 100, 10_000)]:
        for packed in (True, False):
            tile = cuts(steps, samples, neurons, packed, 4)
            assert all(1 <= part <= size for part, size in zip(tile, (steps, samples, neurons), strict=True))
            size = tile[0] * tile[1] * (-(-tile[2] // 8) if packed else 4 * tile[2])
            whole = steps * samples * (-(-neurons // 8) if packed else 4 * neurons)
            assert size >= min(LEAST // 2, whole), (tile, size)


def test_a_tile_in_the_place_of_another_is_told():
    tiles = Tiles("v", torch.zeros(4, 32, 4000))
    held = b"".join(tiles.pieces(SEED))
    grid = tiles.grid
    (first, _), (second, _) = grid.place(0, 0, 0), grid.place(0, 0, 1)
    swapped = held[second : 2 * second] + held[first:second] + held[2 * second :]
    assert len(swapped) == len(held)
    with pytest.raises(ValueError, match="tile 0 is not as it was written"):
        grid.whole(swapped, SEED)
    with pytest.raises(ValueError, match="tile 0 is not as it was written"):
        grid.whole(held, SEED + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_kernel_the_bytes_are_the_same(kind, monkeypatch):
    x = KINDS[kind](torch.rand(4, 32, 5003, generator=torch.Generator().manual_seed(2)))
    held = b"".join(Tiles("v", x).pieces(SEED))
    monkeypatch.setattr(columns, "_kernel", lambda *_: None)
    tiles = Tiles("v", x)
    assert b"".join(tiles.pieces(SEED)) == held
    assert torch.equal(dense(tiles.grid.whole(held, SEED)), dense(x))
