"""Conv2d and BatchNorm2d on a repeated frame against the same frame copied T times."""

from __future__ import annotations

from collections.abc import Iterator

from ..expanded_time import row
from ..harness import Options, Row

__all__ = ["rows"]


def rows(options: Options) -> Iterator[Row]:
    """The copied frame is our own layers too: it is what a library without this road computes."""
    for T in (4,) if options.quick else (4, 8, 16):
        repeated, copied = row(T, "cpu", 3 if options.quick else 7)
        case = f"Conv2d(3, 64, 3) + BatchNorm2d(64), 16 x 32 x 32, T={T}"
        times = repeated * 1e3, copied * 1e3
        yield Row(
            "expanded", case, "forward + backward", "ms", times[0], "the frame copied", times[1], copied / repeated
        )
