"""Windows that go over an image in even steps."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Windows"]


class Windows(NamedTuple):
    """Rows and columns of a window, of the way from one to the next, and of what is put around the image."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    @property
    def side_by_side(self) -> bool:
        """Whether they neither overlap nor leave gaps, and lie inside."""
        return self.stride == self.size and self.padding == (0, 0)

    def fit(self, height: int, width: int) -> bool:
        """Whether they are windows of such an image: each with a place inside, and one at least."""
        each = zip(self.size, self.stride, self.padding, (height, width), strict=True)
        return all(0 < k <= n + 2 * p and s > 0 and 0 <= 2 * p <= k for k, s, p, n in each)

    def number(self, height: int, width: int) -> tuple[int, int]:
        """How many there are in a column and in a row; what fills no window at the end is left out."""
        n = [(n + 2 * p - k) // s + 1 for k, s, p, n in zip(*self, (height, width), strict=True)]
        return n[0], n[1]
