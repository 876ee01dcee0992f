"""The training loop: it learns, repeats, measures, and lets go where it is told."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from spikescope.train import Settings, classify, evaluate, fit

QUICK = Settings(epochs=2, steps=2, batch_size=16)


def test_it_learns(small_network, small_dataset):
    history = fit(small_network, small_dataset, Settings(epochs=12, steps=2, batch_size=10, learning_rate=0.03))
    assert [epoch.epoch for epoch in history] == list(range(1, 13))
    assert history[-1].train_loss < 0.6 * history[0].train_loss
    assert history[-1].test_accuracy > 0.5  # guessing gives 0.1


def test_two_runs_with_one_seed_are_equal(small_network, small_dataset):
    other = copy.deepcopy(small_network)
    first, second = (fit(net, small_dataset, QUICK) for net in (small_network, other))
    assert [(e.train_loss, e.test_loss, e.layers) for e in first] == [
        (e.train_loss, e.test_loss, e.layers) for e in second
    ]
    assert all(torch.equal(a, b) for a, b in zip(small_network.parameters(), other.parameters(), strict=True))


def test_the_seed_decides_the_order(small_network, small_dataset):
    other = copy.deepcopy(small_network)
    first = fit(small_network, small_dataset, QUICK)
    second = fit(other, small_dataset, Settings(epochs=2, steps=2, batch_size=16, seed=1))
    assert first[0].train_loss != second[0].train_loss


def test_evaluate_is_the_mean_over_samples(small_network, small_dataset):
    settings = Settings(steps=3, label_smoothing=0.1)
    x, y = small_dataset.x_train, small_dataset.y_train
    loss, accuracy = evaluate(small_network.train(), x, y, settings)
    assert small_network.training
    assert small_network.neuron1.v == 0.0  # at rest again
    small_network.eval()
    with torch.no_grad():
        scores = torch.cat([classify(small_network, part, 3) for part in x.split(1)])
    assert loss == pytest.approx(F.cross_entropy(scores, y, label_smoothing=0.1).item(), rel=1e-5)
    assert accuracy == pytest.approx((scores.argmax(1) == y).double().mean().item())


def test_the_test_part_changes_nothing(small_network, small_dataset):
    before = copy.deepcopy(small_network.state_dict())
    evaluate(small_network.train(), small_dataset.x_test, small_dataset.y_test, QUICK)
    assert all(torch.equal(held, before[name]) for name, held in small_network.state_dict().items())


def test_callbacks_and_augmentation(small_network, small_dataset):
    calls = []

    def augment(x, generator):
        calls.append(tuple(x.shape))
        assert isinstance(generator, torch.Generator)
        return x

    fit(
        small_network,
        small_dataset,
        QUICK,
        augment=augment,
        on_batch=lambda: calls.append("batch"),
        on_epoch=lambda epoch: calls.append(epoch.epoch),
    )
    shapes = [(16, 1, 8, 8)] * 4 + [(6, 1, 8, 8)]
    one = [item for shape in shapes for item in (shape, "batch")]
    assert calls == [*one, 1, *one, 2]


def test_an_interrupt_comes_out(small_network, small_dataset):
    seen = []
    hooks = [len(module._forward_hooks) for module in small_network.modules()]

    def stop(epoch):
        seen.append(epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(small_network, small_dataset, QUICK, on_epoch=stop)
    assert len(seen) == 1
    assert [len(module._forward_hooks) for module in small_network.modules()] == hooks


@pytest.mark.parametrize(("name", "given"), [("epochs", 0), ("steps", -1), ("batch_size", 2.5)])
def test_settings_are_checked(name, given):
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of at least 1, but got {given}"):
        Settings(**{name: given})
