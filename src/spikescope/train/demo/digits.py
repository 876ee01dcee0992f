"""The digits of scikit-learn, 1,797 scanned 8x8 images, and a small convolutional spiking network for them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from ... import layer, neuron
from ...errors import check_choice, missing_extra
from ...surrogate import ATan
from ..data import Dataset

__all__ = ["digits_network", "load_digits"]

SPLIT_SEED = 0
TEST_SHARE = 0.25
_surrogate: Any = ATan  # its argument has a default, which type checkers do not see

THRESHOLD = 0.5  # low enough that all layers fire from the first epoch on


def load_digits() -> Dataset:
    """The images as `[N, 1, 8, 8]` in 0 to 1; a quarter of each class to test on, always the same.

    Alpaydin and Kaynak, *Optical recognition of handwritten digits* (UCI Machine Learning Repository, 1998).
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise missing_extra("scikit-learn", "train", "The digits") from None
    digits = load()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(
        range(len(labels)), test_size=TEST_SHARE, stratify=digits.target, random_state=SPLIT_SEED
    )
    return Dataset(images[train], labels[train], images[test], labels[test])


def _spiking(kind: str) -> nn.Module:
    made: nn.Module = neuron.registry[kind](
        v_threshold=THRESHOLD, surrogate_function=_surrogate(), detach_reset=True, step_mode="m"
    )
    return made


def digits_network(kind: str = "LIFNode", channels: tuple[int, int] = (48, 96), hidden: int = 256) -> nn.Sequential:
    """Two convolutions, a hidden layer and a linear read-out: `[T, N, 1, 8, 8]` to `[T, N, 10]`.

    - `kind`: the name of an integrate-and-fire neuron of `spikescope.neuron.registry`.

    >>> digits_network("IFNode", channels=(4, 8), hidden=16)(torch.rand(3, 2, 1, 8, 8)).shape
    torch.Size([3, 2, 10])
    """
    fitting = [name for name, cls in neuron.registry.items() if issubclass(cls, neuron.IntegrateAndFire)]
    check_choice("digits_network", "the neuron", kind, fitting)
    first, second = channels
    return nn.Sequential(
        OrderedDict(
            conv1=layer.Conv2d(1, first, 3, padding=1, bias=False, step_mode="m"),
            norm1=layer.BatchNorm2d(first, step_mode="m"),
            neuron1=_spiking(kind),
            pool1=layer.MaxPool2d(2, step_mode="m"),
            conv2=layer.Conv2d(first, second, 3, padding=1, bias=False, step_mode="m"),
            norm2=layer.BatchNorm2d(second, step_mode="m"),
            neuron2=_spiking(kind),
            pool2=layer.MaxPool2d(2, step_mode="m"),
            flatten=layer.Flatten(step_mode="m"),
            linear3=layer.Linear(second * 4, hidden, step_mode="m"),
            neuron3=_spiking(kind),
            readout=layer.Linear(hidden, 10, step_mode="m"),
        )
    )
