"""A training as seen in the terminal: a progress bar, and a line for each epoch."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self, TextIO

from ..errors import missing_extra
from ..report.views import Epoch

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """A context manager with the callbacks of `fit`: a bar that moves with each batch, and a line for each epoch.

    - `updates`: the number of batches of the whole training.
    """

    def __init__(self, updates: int, stream: TextIO | None = None) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        except ImportError:
            raise missing_extra("rich", "train", "Progress bars") from None
        console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        columns: list[Any] = [TextColumn("training"), BarColumn(40), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("training", total=updates)
        self._began = False

    def batch(self) -> None:
        """Move the bar by one batch."""
        self._bar.advance(self._task)

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of an epoch."""
        print_line = self._bar.console.print
        if not self._began:
            self._began = True
            layers = "  ".join(f"{layer.name:>14}" for layer in epoch.layers)
            print_line(
                f"[bold]epoch   loss  train %   test %  {layers}[/bold]   [dim](spikes per 100 steps, silent)[/dim]"
            )
        layers = "  ".join(f"{100 * layer.rate:>6.1f} {100 * layer.silent:>5.1f} %" for layer in epoch.layers)
        print_line(
            f"{epoch.epoch:>5}  {epoch.train_loss:>5.3f}  {100 * epoch.train_accuracy:>7.2f}  "
            f"{100 * epoch.test_accuracy:>7.2f}  {layers}"
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
