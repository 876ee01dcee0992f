"""Convert a trained convolutional network to spikes, and see how many time steps it needs.

    python examples/conversion.py            # about ten seconds
    python examples/conversion.py --quick    # about five

A residual network with batch normalisation and max-pooling learns to read digits. `ann2snn.Converter` turns it into a
spiking network, without training. Printed are the accuracy after 1, 2, 4, ... time steps beside that of the original,
the spikes of each layer for one digit, and how near each layer comes to its activations. Two pictures are saved in the
present folder: conversion_accuracy.png and conversion_layers.png. Needs pip install 'spikescope[train,report]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikescope import ann2snn, functional, monitor
from spikescope.train import Dataset, TrainingProgress, batches, load_digits, shift_images

BATCH = 64


class Reader(nn.Module):
    """Three convolutions, one of them around a shortcut, and a hidden layer: `[N, 1, 8, 8]` to `[N, 10]`."""

    def __init__(self, channels: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)  # one for all: the conversion gives each of its calls a layer of neurons
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Linear(8 * channels, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.pool(self.relu(x + self.norm2(self.conv2(x))))
        x = self.pool(self.relu(self.norm3(self.conv3(x))))
        return self.head(x.flatten(1))


def train(net: nn.Module, digits: Dataset, epochs: int) -> None:
    """Train the network without spikes as usual."""
    generator = torch.Generator().manual_seed(0)
    updates = epochs * -(-len(digits.x_train) // BATCH)
    augment = shift_images(0.5)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=updates)
    with TrainingProgress(updates) as progress:
        for _ in range(epochs):
            for x, y in batches(digits.x_train, digits.y_train, BATCH, generator):
                optimizer.zero_grad()
                F.cross_entropy(net(augment(x, generator)), y, label_smoothing=0.05).backward()
                optimizer.step()
                schedule.step()
                progress.batch()


def count_spikes(snn: nn.Module, x: Tensor, steps: int) -> None:
    """Print how many spikes each layer fires for one sample."""
    with torch.no_grad(), monitor.SpikeCounter(snn) as counter:
        snn(x.expand(steps, *x.shape))
    functional.reset_net(snn)
    print(f"\nspikes of each layer for one digit in {steps} steps")
    for name, count in counter.layers.items():
        print(f"{name:<8} {count.spikes / len(x):>8.1f}  {count.rate:.4f} per neuron and step")


def main(arguments: Sequence[str] | None = None) -> float:
    """Run the example; gives the accuracy of the converted network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a short training and fewer steps")
    parser.add_argument("--steps", type=int, default=None, help="time steps, 64 or with --quick 32")
    given = parser.parse_args(arguments)
    steps = given.steps or (32 if given.quick else 64)

    torch.manual_seed(0)
    digits = load_digits()
    ann = Reader(channels=8, hidden=32) if given.quick else Reader()
    train(ann, digits, epochs=5 if given.quick else 15)

    convert = ann2snn.Converter(digits.x_train.split(256), mode="99.9%", momentum=None)
    snn = convert(ann)
    functional.set_step_mode(snn, "m")
    course = ann2snn.accuracy_over_time(snn, batches(digits.x_test, digits.y_test, 150), steps, ann=ann)
    print(course.table())
    count_spikes(snn, digits.x_test[:100], steps)

    layers = ann2snn.compare(ann, snn, digits.x_test[:100], steps)
    print(f"\nactivations and rates after {steps} steps\n{layers.table()}")
    course.plot().savefig("conversion_accuracy.png")
    layers.plot().savefig("conversion_layers.png")
    print("\nsaved conversion_accuracy.png and conversion_layers.png")
    return course.accuracy[-1]


if __name__ == "__main__":
    torch.set_num_threads(1)  # layers as small as these gain nothing from more
    main()
