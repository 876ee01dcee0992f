"""How far trains are from each other: what it costs to make one of the other."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import check_choice, check_number
from ..functional.distance import van_rossum_distance as squared_distance
from .gather import Run, both, dense
from .registry import measure
from .source import Array, Spikes

__all__ = ["van_rossum_distance", "victor_purpura_distance"]

AT_ONCE = 1 << 22
"""Numbers that are worked on at a time."""

Pairs = Literal["same", "all"]


@measure("values", "cost", "Elephant `victor_purpura_distance`; Victor and Purpura 1996", takes=("spikes", "other"),
         cost_factor=0.5)  # fmt: skip
def victor_purpura_distance(spikes: Spikes, other: Spikes, cost_factor: float = 1.0, pairs: Pairs = "same") -> Tensor:
    r"""The least cost of making one train of another: 1 to add or remove a spike, `cost_factor` to move it by a step.

    - `pairs`: `"same"` holds each train against that of the same sample and neuron, `[samples, *F]`; `"all"` each of
      `spikes` against each of `other`, `[trains, trains]`, with `spikes` twice the distances among themselves.

    With a cost of 0 it is the difference of the numbers of spikes; with an infinite one, of spikes at one step that the
    other has not. Trains without spikes are at 0 of each other.

    >>> train = torch.tensor([1.0, 0, 0, 1, 0]).view(5, 1, 1)
    >>> victor_purpura_distance(train, train.roll(1, 0), cost_factor=0.25)  # two spikes, each moved by a step
    tensor([[0.5000]], dtype=torch.float64)
    """
    owner = "victor_purpura_distance"
    check_choice(owner, "pairs", pairs, ("same", "all"))
    check_number(owner, "cost_factor, the cost of a step,", cost_factor, least=0)
    held = both(owner, spikes, other)
    if pairs == "all":
        a, b = (_joined([run[side] for run in held]) for side in (0, 1))
        left, right = (at.ravel() for at in np.indices((len(a[0]), len(b[0]))))
        made = _victor_purpura(a, b, left, right, cost_factor)
        return torch.from_numpy(made).reshape(len(a[0]), len(b[0]))
    parts = []
    for one, two in held:
        trains = np.arange(one.samples * one.neuron_shape.numel())
        parts.append(_victor_purpura(_joined([one]), _joined([two]), trains, trains, cost_factor))
    samples = sum(run.samples for run, _ in held)
    return torch.from_numpy(np.concatenate(parts)).reshape(samples, *held[0][0].neuron_shape)


def _joined(held: list[Run]) -> tuple[Array, Array, Array]:
    """Of the trains of all runs their numbers of spikes, where each begins, and the steps of all."""
    counts = [np.bincount(run.train, minlength=run.samples * run.neuron_shape.numel()) for run in held]
    number = np.concatenate(counts)
    return number, np.cumsum(number) - number, np.concatenate([run.step for run in held])


def _victor_purpura(
    a: tuple[Array, Array, Array], b: tuple[Array, Array, Array], left: Array, right: Array, cost: float
) -> Array:
    """The distances of the trains `left` of a and `right` of b, some at a time, those of like numbers together."""
    made = np.zeros(len(left))
    order = np.lexsort((b[0][right], a[0][left]))
    start = 0
    while start < len(order):
        width = int(b[0][right[order[start:]]].max()) + 1
        some = order[start : start + max(1, AT_ONCE // width)]
        made[some] = _table(*_padded(a, left[some]), *_padded(b, right[some]), cost)
        start += len(some)
    return made


def _padded(held: tuple[Array, Array, Array], trains: Array) -> tuple[Array, Array]:
    """The steps of trains as rows of one length, and how many of each are real."""
    number, begin, steps = held
    width = int(number[trains].max(initial=0))
    at = begin[trains][:, None] + np.arange(width)
    return np.append(steps, 0)[np.minimum(at, len(steps))], number[trains]


def _table(a: Array, number_a: Array, b: Array, number_b: Array, cost: float) -> Array:
    """Row after row of the table of the costs of the first i spikes of a and the first j of b, all pairs abreast."""
    columns = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(columns.astype(np.float64), (len(a), len(columns)))
    made = row[np.arange(len(a)), number_b]
    for i in range(a.shape[1]):
        gap = np.abs(a[:, i : i + 1] - b)
        moved = row[:, :-1] + (np.where(gap == 0, 0.0, np.inf) if cost == np.inf else cost * gap)
        least = row + 1  # without this spike of a
        least[:, 1:] = np.minimum(least[:, 1:], moved)
        row = np.minimum.accumulate(least - columns, 1) + columns  # with more spikes of b
        made = np.where(number_a == i + 1, row[np.arange(len(a)), number_b], made)
    return made


@measure("values", "distance", "Elephant `van_rossum_distance`; van Rossum 2001", takes=("spikes", "other"),
         time_constant=3.0)  # fmt: skip
def van_rossum_distance(spikes: Spikes, other: Spikes, time_constant: float = 1.0, pairs: Pairs = "same") -> Tensor:
    r"""The van Rossum distance of trains in Elephant's norm: $\sqrt{2 D^2}$ of `functional.van_rossum_distance`.

    $$d^2 = \sum_{t,u} (x_t - y_t)\,(x_u - y_u)\, e^{-|t - u|/\tau}$$

    - `time_constant`: $\tau$ in steps. `pairs`: as in `victor_purpura_distance`.

    One spike more is 1, two spikes far apart are $\sqrt 2$ from each other.

    >>> train = torch.tensor([1.0, 0, 0, 1, 0]).view(5, 1, 1)
    >>> van_rossum_distance(train, 0 * train, time_constant=0.01)  # two spikes more
    tensor([[1.4142]], dtype=torch.float64)
    """
    owner = "van_rossum_distance"
    check_choice(owner, "pairs", pairs, ("same", "all"))
    check_number(owner, "time_constant, in steps,", time_constant, above=0)
    found = both(owner, spikes, other)
    held = [(dense(a).flatten(1), dense(b).flatten(1)) for a, b in found]
    if pairs == "same":
        made = torch.cat([_van_rossum(a, b, time_constant) for a, b in held])
        return made.reshape(sum(run.samples for run, _ in found), *found[0][0].neuron_shape)
    if len({len(a) for a, _ in held}) > 1:
        raise ValueError(f"{owner}: pairs='all' takes runs of one length. Measure them run by run.")
    x, y = (torch.cat([run[side] for run in held], 1) for side in (0, 1))
    rows = [_van_rossum(x[:, i : i + 1].expand_as(y), y, time_constant) for i in range(x.shape[1])]
    return torch.stack(rows) if rows else torch.zeros(0, 0, dtype=torch.float64, device="cpu")


def _van_rossum(x: Tensor, y: Tensor, tau: float) -> Tensor:
    """Of trains side by side, `[T, trains]`, some at a time."""
    width = max(1, AT_ONCE // max(1, len(x)))
    pieces = zip(x.split(width, 1), y.split(width, 1), strict=True)
    made = [squared_distance(a.double(), b.double(), tau, reduction="none") for a, b in pieces]
    return (2 * torch.cat(made)).clamp(min=0).sqrt()
