"""EVT 2.0, the RAW files of Prophesee's cameras."""

from __future__ import annotations

import numpy as np

from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off, skip_comments

__all__ = ["load_evt2"]

TIME_HIGH = 0x8
NEVER = -1


def load_evt2(file_name: StoredPath) -> dict[str, Array]:
    """The events of a RAW file in EVT 2.0, as int64 arrays `t` (microseconds), `x`, `y`, `p`.

    Lines that begin with `%`, then words of 32 bits, little-endian, whose highest 4 bits are their type: 0 OFF, 1 ON
    (22 to 27 the low bits of the time, 11 to 21 x, 0 to 10 y), 8 the high bits of the time for those that follow.
    Words of other types are passed over. EVT 2.1 and 3.0 are refused.
    """
    held = content(file_name)
    at = skip_comments(held, b"%")
    header = held[:at].lower().replace(b" ", b"")
    if any(other in header for other in (b"evt3", b"evt21", b"evt2.1", b"evt4")):
        raise FormatError(f"{file_name} is of another EVT than 2.0, which alone can be read. Convert it to EVT 2.0.")
    if (len(held) - at) % 4:
        raise cut_off(file_name, f"its words take 4 bytes each, but {len(held) - at} bytes are there")
    words = np.frombuffer(held, "<u4", offset=at).astype(np.int64)
    kind = words >> 28
    is_high, is_event = kind == TIME_HIGH, kind <= 1
    last = np.maximum.accumulate(np.where(is_high, np.arange(len(words)), NEVER))[is_event]
    if (last == NEVER).any():
        raise FormatError(f"{file_name} is damaged, or no EVT 2.0: it has events before the first high bits of a time.")
    events, high = words[is_event], words[last] & 0xFFFFFFF
    return {
        "t": high << 6 | (events >> 22 & 0x3F),
        "x": events >> 11 & 0x7FF,
        "y": events & 0x7FF,
        "p": events >> 28,
    }
