"""Training a classifier of spikes over epochs: the loop, its settings, and the measurement on the test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...functional import reset_net
from ...report.views import Epoch
from ..data import Dataset, batches, direct_encoding
from ..observe import observe

__all__ = ["Settings", "classify", "evaluate", "fit"]

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Settings:
    """How to train: AdamW with one cycle of the learning rate, which peaks at `learning_rate`.

    - `steps`: time steps T for which each sample is shown.
    """

    epochs: int = 20
    steps: int = 4
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.3
    label_smoothing: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size"):
            given = getattr(self, name)
            if not isinstance(given, int) or given < 1:
                raise ValueError(f"Settings: {name} must be a whole number of at least 1, but got {given!r}.")


def classify(net: nn.Module, x: Tensor, steps: int) -> Tensor:
    """The class scores `[N, C]` of the samples `[N, *]`: the mean of the read-out over `steps` steps from rest."""
    reset_net(net)
    return net(direct_encoding(x, steps)).mean(0)


def evaluate(net: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[float, float]:
    """Mean loss and accuracy (a share of 1) in evaluation mode; the network is left reset and in its mode."""
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            sums = torch.zeros(2, device=x.device)
            for xs, ys in batches(x, y, 512):
                scores = classify(net, xs, settings.steps)
                sums += _sums(scores, ys, F.cross_entropy(scores, ys, label_smoothing=settings.label_smoothing))
    finally:
        net.train(training)
        reset_net(net)
    loss, accuracy = (sums / len(y)).tolist()
    return loss, accuracy


def fit(
    net: nn.Module,
    dataset: Dataset,
    settings: Settings,
    *,
    augment: Augment | None = None,
    on_batch: Callable[[], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `net`, a network in `step_mode='m'` from `[T, N, *]` to scores `[T, N, C]`, and measure it every epoch.

    - `augment`: changes the samples of a batch, with a random generator on the CPU.
    - `on_batch`, `on_epoch`: called after each; an exception of theirs ends the training and comes out.

    The order of the samples follows from the seed; the initial weights are those of `net`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    updates = settings.epochs * -(-len(dataset.x_train) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=updates)
    history: list[Epoch] = []
    for number in range(1, settings.epochs + 1):
        start = perf_counter()
        net.train()
        sums = torch.zeros(2, device=dataset.x_train.device)
        for x, y in batches(dataset.x_train, dataset.y_train, settings.batch_size, generator):
            scores = classify(net, x if augment is None else augment(x, generator), settings.steps)
            loss = F.cross_entropy(scores, y, label_smoothing=settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            sums += _sums(scores, y, loss)
            if on_batch is not None:
                on_batch()
        train_loss, train_accuracy = (sums / len(dataset.y_train)).tolist()
        seconds = perf_counter() - start
        with observe(net) as activity:
            test_loss, test_accuracy = evaluate(net, dataset.x_test, dataset.y_test, settings)
        layers = activity.layers()
        history.append(Epoch(number, train_loss, train_accuracy, test_loss, test_accuracy, seconds, layers))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _sums(scores: Tensor, y: Tensor, loss: Tensor) -> Tensor:
    """Loss and right answers of a batch, added up over its samples."""
    right = scores.detach().argmax(1).eq(y).sum()
    return torch.stack([loss.detach().float() * len(y), right.float()])
