"""Samples of unequal lengths in a batch, and data sets divided into training and testing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from .faults import OptionError

__all__ = [
    "fast_split_to_train_test_set",
    "pad_sequence_collate",
    "padded_sequence_mask",
    "split_to_train_test_set",
    "time_first",
    "where_it_is",
]


def where_it_is(held: Any, dtype: torch.dtype | None = None) -> Tensor:
    """What is given as a tensor, on its own device, what is no tensor on the CPU: a default device of the user,
    which `torch.as_tensor` asks, is one for what networks make, and what other libraries call a device is theirs.
    """
    return torch.as_tensor(held, dtype=dtype, device=held.device if isinstance(held, Tensor) else "cpu")


def pad_sequence_collate(batch: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    """For a `DataLoader` of frames by duration: samples padded with zeros `[N, T_max, *]`, labels and lengths `[N]`.

    >>> x, y, length = pad_sequence_collate([(torch.ones(1, 3), 0), (np.ones((2, 3)), 1)])
    >>> x.shape, y, length
    (torch.Size([2, 2, 3]), tensor([0, 1]), tensor([1, 2]))
    """
    given, labels = zip(*batch, strict=True)
    samples = [where_it_is(sample) for sample in given]
    lengths = torch.tensor([len(sample) for sample in samples], device="cpu")
    return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True), where_it_is(labels), lengths


def padded_sequence_mask(sequence_len: Tensor, T: int | None = None) -> Tensor:
    """Which steps of padded sequences are real: `[T, N]`, T being the longest length unless given.

    >>> padded_sequence_mask(torch.tensor([1, 2]))
    tensor([[ True,  True],
            [False,  True]])
    """
    steps = int(sequence_len.max()) if T is None else T
    return torch.arange(steps, device=sequence_len.device)[:, None] < sequence_len[None, :]


def time_first(x: Tensor) -> Tensor:
    """A batch `[N, T, *]` of a loader as the sequence `[T, N, *]` that networks in step mode 'm' take.

    >>> time_first(torch.zeros(8, 4, 2)).shape
    torch.Size([4, 8, 2])
    """
    return x.transpose(0, 1)


def split_to_train_test_set(
    train_ratio: float, origin_dataset: Dataset[Any], num_classes: int, random_split: bool = False
) -> tuple[Subset[Any], Subset[Any]]:
    r"""Divide a data set: of the $n$ samples of each class the first $\lceil n \cdot ratio \rceil$ are for training.

    `random_split` shuffles them first, by the global generator of NumPy (`numpy.random.seed`). Labels are taken from
    `targets` where the data set has them and nothing changes them, so that no sample is read.

    >>> both = torch.utils.data.TensorDataset(torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 1]))
    >>> [part.indices for part in split_to_train_test_set(0.5, both, 2)]
    [[0, 1, 3, 4], [2, 5]]
    """
    if not 0 <= train_ratio <= 1:
        raise OptionError(f"train_ratio must be from 0 to 1, but got {train_ratio!r}.")
    of_class: list[list[int]] = [[] for _ in range(num_classes)]
    for index, label in enumerate(_labels(origin_dataset)):
        if not 0 <= label < num_classes:
            raise OptionError(f"Sample {index} has the label {label}, but num_classes is {num_classes}.")
        of_class[label].append(index)
    if random_split:
        for indices in of_class:
            np.random.shuffle(indices)  # noqa: NPY002  # the generator that the caller seeds
    train: list[int] = []
    test: list[int] = []
    for indices in of_class:
        first = math.ceil(len(indices) * train_ratio)
        train += indices[:first]
        test += indices[first:]
    return Subset(origin_dataset, train), Subset(origin_dataset, test)


fast_split_to_train_test_set = split_to_train_test_set


def _labels(dataset: Any) -> list[int]:
    known = getattr(dataset, "targets", None)
    if known is not None and getattr(dataset, "target_transform", None) is None and len(known) == len(dataset):
        return [_class(index, label) for index, label in enumerate(known)]
    return [_class(index, dataset[index][1]) for index in range(len(dataset))]


def _class(index: int, label: Any) -> int:
    try:
        number = int(label)
        if isinstance(label, str) or number == label:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise OptionError(
        f"Sample {index} has the label {label!r}, which is no number of a class; a data set whose labels are made by a "
        "target_transform is divided before they are."
    )
