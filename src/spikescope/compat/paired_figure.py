"""The figure that a picture of one pair of axes is returned as."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["PairedFigure"]


class PairedFigure(Figure):
    """A figure, which SpikingJelly up to 0.0.0.0.14 returns, and also `(figure, axes)`, as its version 2 returns it.

    >>> figure = PairedFigure()
    >>> drawn = figure.add_subplot()
    >>> first, axes = figure
    >>> first is figure, axes is drawn, figure[1] is drawn
    (True, True, True)
    >>> len(figure)
    2
    """

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Figure | Axes]:
        yield from (self, self.axes[0])

    def __getitem__(self, place: int) -> Figure | Axes:
        return (self, self.axes[0])[place]
