"""Datasets, batches, encoding over time and shifts."""

from __future__ import annotations

import pytest
import torch

from spikescope.errors import ShapeError
from spikescope.train import Dataset, Recipe, batches, direct_encoding, load_digits, shift_images
from spikescope.train.seeding import Order
from spikescope.train.updates import mix


def test_batches_hold_every_sample_once():
    x, y = torch.arange(7.0), torch.arange(7)
    parts = list(batches(x, y, 3, torch.Generator().manual_seed(1)))
    assert [len(part) for part, _ in parts] == [3, 3, 1]
    order = torch.cat([part for part, _ in parts])
    assert sorted(order.tolist()) == x.tolist()
    assert order.tolist() != x.tolist()
    assert all((part == labels).all() for part, labels in parts)


def test_direct_encoding_copies_nothing():
    x = torch.rand(3, 1, 8, 8)
    sequence = direct_encoding(x, 5)
    assert sequence.shape == (5, 3, 1, 8, 8)
    assert sequence.stride(0) == 0
    assert sequence.data_ptr() == x.data_ptr()


def test_shifts_are_by_one_pixel_with_zeros_behind():
    x = torch.zeros(400, 1, 5, 3)
    x[:, 0, 2, 1] = 0.75
    moved = shift_images(1.0)(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape
    places = moved[:, 0].nonzero()
    assert len(places) == 400
    assert {tuple(place) for place in places[:, 1:].tolist()} == {(r, c) for r in (1, 2, 3) for c in (0, 1, 2)}
    edge = torch.ones(400, 1, 2, 2)
    assert set(shift_images(1.0)(edge, torch.Generator()).flatten(1).sum(1).tolist()) == {1.0, 2.0, 4.0}


def test_the_share_of_shifted_images():
    x = torch.rand(2000, 1, 4, 4)
    moved = shift_images(0.3)(x, torch.Generator().manual_seed(0))
    still = (moved == x).flatten(1).all(1).float().mean().item()
    assert still == pytest.approx(1 - 0.3 * 8 / 9, abs=0.04)  # four standard deviations
    assert torch.equal(shift_images(0.0)(x, torch.Generator()), x)


def test_channels_are_shifted_together():
    x = torch.rand(6, 1, 4, 7).expand(6, 3, 4, 7)
    moved = shift_images(1.0)(x, torch.Generator().manual_seed(2))
    assert moved.shape == x.shape
    assert torch.equal(moved[:, :1].expand_as(moved), moved)


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.zeros(2, 1)])
def test_a_dataset_needs_a_label_for_each_sample(labels):
    x = torch.zeros(2, 4)
    with pytest.raises(ShapeError, match=r"the test part needs samples \[N, \*\] and labels \[N\].*but got \[2, 4\]"):
        Dataset(x, torch.zeros(2), x, labels)
    with pytest.raises(ShapeError, match="the train part"):
        Dataset(x[:0], labels[:0], x, torch.zeros(2))


def test_the_digits_are_split_the_same_way_every_time():
    data, again = load_digits(), load_digits()
    assert data.x_train.shape == (1347, 1, 8, 8)
    assert data.x_test.shape == (450, 1, 8, 8)
    assert torch.equal(data.x_test, again.x_test)
    assert 0 == data.x_train.min() < data.x_train.max() == 1
    counts = data.y_test.bincount()
    assert counts.min() >= 43
    assert counts.max() <= 46


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_order_of_an_epoch_is_the_same_on_any_default_device(shuffled):
    wanted = list(Order(10, 3, shuffled=shuffled))
    with torch.device("meta"):
        assert list(Order(10, 3, shuffled=shuffled)) == wanted


@pytest.mark.parametrize("seed", [None, 1])
def test_batches_are_the_same_on_any_default_device(seed):
    x, y = torch.rand(7, 2), torch.arange(7)
    generators = [None if seed is None else torch.Generator().manual_seed(seed) for _ in range(2)]
    wanted = list(batches(x, y, 3, generators[0]))
    with torch.device("meta"):
        given = list(batches(x, y, 3, generators[1]))
    assert [y.tolist() for _, y in given] == [y.tolist() for _, y in wanted]


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
def test_augmentations_are_the_same_on_any_default_device(alphas):
    x, y = torch.rand(4, 1, 6, 6), torch.arange(4)
    wanted = shift_images(0.5)(x, torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    mixed, shares = mix(x, y, 4, Recipe(**alphas))
    with torch.device("meta"):
        assert torch.equal(shift_images(0.5)(x, torch.Generator().manual_seed(2)), wanted)
        torch.manual_seed(3)
        again, same = mix(x, y, 4, Recipe(**alphas))
    assert torch.equal(again, mixed)
    assert torch.equal(same, shares)
