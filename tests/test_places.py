"""Where the spikes are, as flat arrays: the same from a tensor and from bits in either order."""

import numpy as np
import pytest
import torch

from spikescope.spikes import PackedSpikes, places
from spikescope.spikes.kernel import find_spikes


def given(shape, rate, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 3, 5), (9, 2, 0), (0, 2, 3), (4, 0, 3), (64, 1, 17), (3, 2, 4, 5), (9, 2)]
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_they_are_those_of_a_loop(shape, rate, monkeypatch):
    monkeypatch.setattr("spikescope.spikes.flat.AT_ONCE", 64)  # several rounds
    x = given(shape, rate)
    flat = x.flatten(1).numpy() if x.numel() else np.zeros((shape[0], 0))
    wanted = [(train, step) for train in range(flat.shape[1]) for step in range(shape[0]) if flat[step, train]]
    packed = PackedSpikes.from_dense(x)
    for held in (x, x.bool(), x.long(), -2 * x.double(), packed, packed.to("time")):
        train, step = places(held)
        assert train.dtype == step.dtype == np.int64
        assert list(zip(train.tolist(), step.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("shape", [(300, 2, 700), (1, 17_001), (17_001, 1), (4_001, 3, 5), (64, 1_024), (33, 2_000, 0)])
@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_the_kernel_finds_the_same_as_numpy(shape, rate, monkeypatch):
    x = given(shape, rate)
    packed = PackedSpikes.from_dense(x)
    for held in (packed, packed.to("time")):
        found = find_spikes(held.bits.numpy(), int(np.prod(shape[1:])), by_row=held.order == "time")
        assert (found is not None) == (x.numel() > 0)
    every = (x.bool(), packed, packed.to("time"))
    quick = [places(held) for held in every]
    monkeypatch.setattr("spikescope.spikes.flat.find_spikes", lambda *given, **named: None)
    for held, found in zip(every, quick, strict=True):
        for mine, wanted in zip(found, places(held), strict=True):
            assert mine.dtype == wanted.dtype
            assert np.array_equal(mine, wanted)


def test_bits_that_fill_up_a_row_are_not_looked_at():
    bits = np.full((4_096, 2), 255, dtype=np.uint8)
    train, step = find_spikes(bits, 13, by_row=False)
    assert np.array_equal(train, np.repeat(np.arange(13), 4_096))
    assert np.array_equal(step, np.tile(np.arange(4_096), 13))


def test_views_and_graphs_are_read_as_they_are():
    x = given((6, 2, 8), 0.4).requires_grad_()
    wanted = places(x.detach()[:, :, ::2].contiguous())
    for held in (x[:, :, ::2], PackedSpikes.from_dense(x.detach()[:, :, ::2])):
        assert all(np.array_equal(a, b) for a, b in zip(places(held), wanted, strict=True))


def test_what_is_no_number_is_no_spike():
    with pytest.raises(ValueError, match="some values are NaN"):
        places(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(TypeError, match="places"):
        places([[1.0]])
