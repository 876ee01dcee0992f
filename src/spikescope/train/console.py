"""A training as seen in the terminal: a progress bar, and a line for each epoch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from ..errors import missing_extra
from ..report.views import Epoch, LayerActivity

__all__ = ["TrainingProgress"]

_COLUMNS = 5  # as many layers have a column each


class TrainingProgress:
    """A context manager with the callbacks of `fit`: a bar that moves with each batch, and a line for each epoch.

    - `updates`: the number of batches of the whole training. `done`: those of a run before, which goes on.

    Of many layers it shows the mean rate and the one with most silent neurons.
    """

    def __init__(self, updates: int, stream: TextIO | None = None, *, done: int = 0) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        except ImportError:
            raise missing_extra("rich", "train", "Progress bars") from None
        console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        columns: list[Any] = [TextColumn("training"), BarColumn(40), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("training", total=updates, completed=done)
        self._began = False

    def batch(self) -> None:
        """Move the bar by one batch."""
        self._bar.advance(self._task)

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of an epoch."""
        print_line = self._bar.console.print
        if not self._began:
            self._began = True
            names = [layer.name for layer in epoch.layers] if len(epoch.layers) <= _COLUMNS else ["all layers"]
            heads = "  ".join(f"{name:>14}" for name in names)
            print_line(
                f"[bold]epoch   loss  train %   test %  {heads}[/bold]   [dim](spikes per 100 steps, silent)[/dim]"
            )
        print_line(
            f"{epoch.epoch:>5}  {epoch.train_loss:>5.3f}  {100 * epoch.train_accuracy:>7.2f}  "
            f"{100 * epoch.test_accuracy:>7.2f}  {_activity(epoch.layers)}"
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _activity(layers: Sequence[LayerActivity]) -> str:
    if len(layers) <= _COLUMNS:
        return "  ".join(f"{100 * layer.rate:>6.1f} {100 * layer.silent:>5.1f} %" for layer in layers)
    neurons = sum(layer.neurons for layer in layers)
    rate = sum(layer.rate * layer.neurons for layer in layers) / neurons
    silent = sum(layer.silent * layer.neurons for layer in layers) / neurons
    worst = max(layers, key=lambda layer: layer.silent)
    return f"{100 * rate:>6.1f} {100 * silent:>5.1f} %   most in {worst.name}: {100 * worst.silent:.1f} %"
