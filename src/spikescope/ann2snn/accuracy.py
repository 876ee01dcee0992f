"""How many time steps a converted network needs, and how many spikes they cost."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..display import laid_out
from ..errors import ShapeError, check_tensor, check_whole, dims
from ..report.style import COLOURS, GREY, blank, heading, note, styled, tidy
from .driving import Tally, drive, neurons_of, with_progress
from .tracing import on_device

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["AccuracyOverTime", "accuracy_over_time"]


@dataclass(frozen=True)
class AccuracyOverTime:
    """What `accuracy_over_time` gives.

    - `accuracy`: after 1, 2, ... T steps, as shares of 1. `spikes`: until then, of all neurons, per sample.
    - `ann`: the accuracy of the network before the conversion, if it was given. `samples`: how many there were.
    """

    accuracy: tuple[float, ...]
    spikes: tuple[float, ...]
    samples: int
    ann: float | None = None

    @property
    def shown(self) -> list[int]:
        """The steps of the table: the powers of two and the last.

        >>> AccuracyOverTime((0.5,) * 6, (0.0,) * 6, samples=2).shown
        [1, 2, 4, 6]
        """
        last = len(self.accuracy)
        return [*(2**power for power in range(last.bit_length()) if 2**power < last), last]

    def table(self) -> str:
        """Accuracy in per cent and spikes per sample after 1, 2, 4, ... steps.

        >>> print(AccuracyOverTime((0.5, 0.75, 0.75), (1.5, 3.0, 4.5), samples=4, ann=1.0).table())
        steps  accuracy %  spikes per sample
        1           50.00                1.5
        2           75.00                3.0
        3           75.00                4.5
        ANN        100.00
        """
        cells = [["steps", "accuracy %", "spikes per sample"]]
        cells += [
            [str(step), f"{100 * self.accuracy[step - 1]:.2f}", f"{self.spikes[step - 1]:.1f}"] for step in self.shown
        ]
        if self.ann is not None:
            cells.append(["ANN", f"{100 * self.ann:.2f}", ""])
        return "\n".join(line.rstrip() for line in laid_out(cells).splitlines())

    @styled
    def plot(self) -> Figure:
        """Accuracy and spikes over the number of steps, as a figure of matplotlib; needs the extra `report`."""
        figure = blank(10, 4.2)
        last = len(self.accuracy)
        steps = "1 step" if last == 1 else f"{last} steps"
        heading(
            figure,
            f"The converted network: {100 * self.accuracy[-1]:.2f} % right after {steps}",
            f"{self.samples} samples, each held for all steps",
        )
        left, right = figure.subplots(1, 2)
        self._draw_accuracy(left)
        self._draw_spikes(right)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xlim(1, max(last, 2))
            axes.set_xticks(self.shown, [str(step) for step in self.shown])
            axes.minorticks_off()
        return figure

    def _draw_accuracy(self, axes: Axes) -> None:
        tidy(axes, "Accuracy", "time steps T", "samples classified right (%)")
        percent = [100 * share for share in self.accuracy]
        if self.ann is not None:
            axes.axhline(100 * self.ann, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
            note(axes, 1, 100 * self.ann, f"before the conversion {100 * self.ann:.2f} %", shift=(4, 8))
        self._draw(axes, percent, COLOURS[0])
        axes.set_ylim(top=104)  # room for the note
        axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 100])

    def _draw_spikes(self, axes: Axes) -> None:
        tidy(axes, "Cost", "time steps T", "spikes per sample")
        self._draw(axes, self.spikes, COLOURS[1])
        axes.set_yscale("log")

    def _draw(self, axes: Axes, values: Sequence[float], colour: str) -> None:
        """A line with a mark at each step of the table."""
        axes.plot(range(1, len(values) + 1), values, color=colour)
        marks = [values[step - 1] for step in self.shown]
        axes.plot(self.shown, marks, "o", color=colour, markersize=4.5, clip_on=False)


@torch.no_grad()
def accuracy_over_time(
    snn: nn.Module, data: Iterable[Any], steps: int, ann: nn.Module | None = None
) -> AccuracyOverTime:
    r"""The accuracy of a converted classifier after each of `steps` time steps, and the spikes it took.

    $$\text{class} = \arg\max_c \sum_{t \le T} y_{t,c}$$

    - `data`: batches of inputs and labels, `(x [N, *], y [N])`; or one such batch.
    - `ann`: the network before the conversion, for its accuracy beside these.

    `snn` gives `[N, C]` a step. It runs in its present step mode, with `'m'` on all steps of a batch at once, and is
    reset before and after each batch.

    >>> ann = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = nn.init.eye_(ann[0].weight)
    >>> x, y = torch.tensor([[0.9, 0.3], [0.2, 0.4]]), torch.tensor([0, 1])
    >>> snn = spikescope.ann2snn.Converter(x)(ann)
    >>> accuracy_over_time(snn, [(x, y)], steps=2, ann=ann).accuracy  # 0.4 / 0.9 is no spike in the first step
    (0.5, 1.0)
    """
    if any(isinstance(given, Tensor) for given in (data, steps)):
        raise TypeError(
            "accuracy_over_time: inputs and labels go in one tuple, accuracy_over_time(snn, (x, y), steps=32), or in a "
            "loader of such tuples."
        )
    steps = check_whole("accuracy_over_time", "steps", steps)
    neurons = neurons_of("accuracy_over_time", snn)
    mode = next(iter(neurons.values())).step_mode
    right, spikes = (torch.zeros(steps, dtype=dtype, device="cpu") for dtype in (torch.int64, torch.float64))
    samples = before = 0
    judge = None if ann is None else copy.deepcopy(ann).eval()
    for inputs, labels in with_progress(_labelled(data), "counting right answers"):
        with Tally(snn, neurons) as tally:
            scores = drive(snn, tuple(on_device(inputs, snn)), steps, mode)
        check_tensor("accuracy_over_time", "the output of the network", scores)
        if scores.ndim != 3 or scores.shape[1:2] != labels.shape:
            raise ShapeError(
                f"accuracy_over_time takes a network that gives [N, C] for labels [N], but got "
                f"{dims(scores.shape, 'TN')} over time for labels {dims(labels.shape)}."
            )
        right += (scores.double().cumsum(0).argmax(2).cpu() == labels.cpu()).sum(1)
        spikes += tally.per_step()
        samples += len(labels)
        if judge is not None:
            before += int((judge(*on_device(inputs, judge)).argmax(1).cpu() == labels.cpu()).sum())
    if not samples:
        raise ValueError("accuracy_over_time got no samples.")
    return AccuracyOverTime(
        tuple((right / samples).tolist()),
        tuple((spikes.cumsum(0) / samples).tolist()),
        samples,
        None if ann is None else before / samples,
    )


def _labelled(data: Iterable[Any]) -> Iterable[tuple[tuple[Tensor, ...], Tensor]]:
    """Inputs and labels of each batch."""
    one = isinstance(data, (tuple, list)) and data and all(isinstance(part, Tensor) for part in data)
    for batch in (data,) if one else data:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not all(isinstance(x, Tensor) for x in batch):
            raise TypeError(
                "accuracy_over_time: a batch must be a tuple of tensors, the inputs and then the labels, but got "
                f"{type(batch).__name__}."
            )
        yield tuple(batch[:-1]), batch[-1]
