"""Where results go while a run goes on: the console, files of lines, TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TextIO

import torch
from torch import Tensor

from ...errors import missing_extra
from ...files import LineFile
from ..reduce import Bins, LogBins
from ..results import Results
from .plain import plain, scalars

logger = logging.getLogger("spikescope")

__all__ = ["Console", "Csv", "JsonLines", "Sink", "TensorBoard"]

Values = Mapping[str, Mapping[str, Any]]


class Sink(Protocol):
    """Takes the results of a step, as `recording.rows()` gives them: module to reducer to result."""

    def write(self, step: int, values: Values) -> None:
        """Write them out; once it returns, they are with the operating system."""


class Console:
    """Prints a table for each step.

    >>> Console(sys.stdout).write(3, {"layer1": {"rate": 0.25}})
    step 3
    layer   rate
    layer1  0.25
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, step: int, values: Values) -> None:
        check_rows("Console", values)
        print(f"step {step}\n{Results(values, single=False).table()}", file=self._stream or sys.stdout, flush=True)

    def close(self) -> None:
        """The stream is not its own and stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_rows(owner: str, values: Any) -> None:
    """Refuse anything but rows."""
    if not (isinstance(values, Mapping) and all(isinstance(row, Mapping) for row in values.values())):
        raise TypeError(
            f"{owner}.write takes rows, module to name to number, as recording.rows() gives them, but got "
            f"{type(values).__name__} of something else. Write other numbers as {{'training': {{'loss': 1.0}}}}."
        )


class _Lines:
    """A file that grows by whole lines: each step is one write, and half a line of a killed process is cut off."""

    opening: ClassVar[str]  # what every file of the kind begins with

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{type(self).__name__}: there is no folder {self.path.parent}. Make it first.")
        self._file = LineFile(self.path)
        try:
            self._end_the_last_line()
        except BaseException:
            self.close()
            raise

    def _end_the_last_line(self) -> None:
        """Cut off half a line that one of its kind has left; a file of somebody else is left alone."""
        size = self._file.size
        if not size or self._file.read(size - 1, 1) == b"\n":
            return
        opening = self.opening.encode()
        if self._file.read(0, len(opening)) != opening[:size]:
            raise ValueError(
                f"{type(self).__name__}: {self.path} is another file, whose last line has no end. Choose a new file."
            )
        held, last = size, b""
        while held and b"\n" not in last:
            held = max(0, size - 2 * (size - held) - 4096)
            last = self._file.read(held, size - held)
        last = last[last.rfind(b"\n") + 1 :]
        if self._is_whole(last):
            self._file.add("\n")
            return
        self._file.cut(size - len(last))
        logger.warning("%s ended in half a line, of a process that was killed; it was cut off.", self.path)

    def _is_whole(self, line: bytes) -> bool:
        """Whether nothing but its end is missing of a line."""
        return False

    def append(self, text: str) -> None:
        """Add whole lines."""
        if self._file.closed:
            raise ValueError(f"{type(self).__name__}: {self.path} is closed.")
        self._file.add(text)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class JsonLines(_Lines):
    """Appends a JSON object to a file for each step: `{"step": 3, "values": {"layer1": {"rate": 0.25}}}`.

    Tensors are lists, named results objects; NaN and infinity, which JSON does not have, are null. What was written
    before a process was killed stays readable, and a new one goes on behind it.
    """

    opening = '{"step": '

    def _is_whole(self, line: bytes) -> bool:
        try:
            json.loads(line)
        except ValueError:
            return False
        return True

    def write(self, step: int, values: Values) -> None:
        check_rows("JsonLines", values)
        self.append(json.dumps({"step": step, "values": plain(values)}, allow_nan=False) + "\n")


class Csv(_Lines):
    """Appends a line `step,layer,quantity,value` to a file for each number, all of a step at once.

    Of a tensor there are the mean, the minimum and the maximum: `rate.mean`, `rate.min` and `rate.max`. A file that
    begins with another header is a ValueError.
    """

    opening = "step,layer,quantity,value\n"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        header = self._file.read(0, 4096).partition(b"\n")[0].decode(errors="replace").rstrip("\r")
        if header and header != self.opening.rstrip("\n"):
            self.close()
            raise ValueError(f"Csv: {self.path} holds another table, with the header {header!r}. Choose a new file.")
        if not header:
            self.append(self.opening)

    def write(self, step: int, values: Values) -> None:
        check_rows("Csv", values)
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        for layer, row in values.items():
            for label, value in row.items():
                lines.writerows((step, layer, quantity, held) for quantity, held in scalars(value, label).items())
        self.append(text.getvalue())


class TensorBoard:
    """Writes numbers as curves, tensors and histograms as histograms; needs the extra `tensorboard`.

    Of a tensor there are curves too, `rate.mean`, `rate.min` and `rate.max` as in the table of `Csv`, and of a
    histogram that of its median, so that a course over training can be read.

    - `log_dir`: where the events go. `writer`: a `SummaryWriter` of your own instead.
    - `bins`: of the histogram of a tensor. Its values are binned before they are handed over.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, *, bins: int = 64, writer: Any = None) -> None:
        if (log_dir is None) == (writer is None):
            raise ValueError("TensorBoard takes either log_dir or a writer.")
        self.bins, self._writer = bins, _summary_writer(log_dir) if writer is None else writer

    def write(self, step: int, values: Values) -> None:
        check_rows("TensorBoard", values)
        for layer, row in values.items():
            for label, value in row.items():
                self._add(f"{label}/{layer}", label, value, step)
        self._writer.flush()

    def _add(self, tag: str, label: str, value: Any, step: int) -> None:
        numbers = scalars(value, label)
        if isinstance(value, (Bins, LogBins)):
            self._histogram(tag, value.counts, value.edges, step)
            numbers = {name: number for name, number in numbers.items() if name == f"{label}.median"}
        elif isinstance(value, Tensor) and value.numel() > 1:
            held = value.detach().double().flatten().cpu()
            held = held[held.isfinite()]
            if len(held):
                counts, edges = torch.histogram(held, self.bins)
                self._histogram(tag, counts, edges, step, held)
        for name, number in numbers.items():
            self._writer.add_scalar(tag.replace(label, name, 1), number, step)

    def _histogram(self, tag: str, counts: Tensor, edges: Tensor, step: int, values: Tensor | None = None) -> None:
        counts, edges = counts.double().cpu(), edges.double().cpu()
        if values is None:  # binned already: each value stands in the middle of its bin
            middle = (edges[1:] + edges[:-1]) / 2
            low, high = edges[0].item(), edges[-1].item()
            total, squares = (counts * middle).sum().item(), (counts * middle**2).sum().item()
        else:
            low, high = values.min().item(), values.max().item()
            total, squares = values.sum().item(), (values**2).sum().item()
        self._writer.add_histogram_raw(
            tag, low, high, int(counts.sum()), total, squares, edges[1:].tolist(), counts.tolist(), step
        )

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _summary_writer(log_dir: str | os.PathLike[str] | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard", "TensorBoard's files") from None
    return SummaryWriter(log_dir)
