"""EVT 2.0, 2.1 and 3.0, the RAW files of Prophesee's cameras.

Lines that begin with `%` name the version. Then come words, little-endian, whose highest 4 bits are their type; those
of type 8 give the high bits of the time for those that follow, which start again at 0 after their largest number.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off

__all__ = ["load_evt"]

WORDS = {"2.0": "<u4", "2.1": "<u8", "3.0": "<u2"}
TIME_HIGH = 8
PART = 1 << 22
"""Words that are read at once: what is between them and the events takes some fifty bytes for each."""
KNOWN_TO_EVT21 = (0, 1, 8, 10, 14, 15)


def load_evt(file_name: StoredPath) -> dict[str, Array]:
    """The events of a RAW file in EVT 2.0, 2.1 or 3.0, as int64 arrays `t` (microseconds), `x`, `y`, `p`.

    Triggers and words of other types are passed over, and so are events before the first word that says when, or in
    which row, they were.
    """
    held = content(file_name)
    at = _end_of_header(held)
    header = held[:at].decode("ascii", "replace").lower()
    version = _version(file_name, header)
    size = np.dtype(WORDS[version]).itemsize
    if (len(held) - at) % size:
        raise cut_off(file_name, f"its words take {size} bytes each, but {len(held) - at} bytes are there")
    words = np.frombuffer(held, WORDS[version], offset=at)
    if version == "3.0":
        return _in_parts(words, _evt3, _state_of_evt3, 12)
    if version == "2.0":
        return _in_parts(words, _evt2, _last_time, 28)
    upper, lower = _halves(file_name, words, "endianness=legacy" in header)
    return _in_parts(np.stack([upper, lower], axis=1), _evt21, lambda part: part[_last_time_at(part[:, 0])], 28)


def _in_parts(words: Array, read: Read, state: Callable[[Array], Array], bits: int) -> dict[str, Array]:
    """The events of words that are read part by part, each after the words that say what held before it."""
    parts, before, fallen = [], words[:0], 0
    for start in range(0, max(1, len(words)), PART):
        part = np.concatenate([before, words[start : start + PART]])
        events, high = read(part, fallen)
        parts.append(events)
        before = state(part)
        fallen = max(0, int(high[-1])) >> bits if len(high) else 0
    return {name: np.concatenate([part[name] for part in parts]) for name in "txyp"}


def _last_time_at(words: Array) -> Array:
    """The place of the last word of 32 bits that gives the high bits of the time, if there is one."""
    return np.flatnonzero(words >> 28 == TIME_HIGH)[-1:]


def _last_time(words: Array) -> Array:
    return words[_last_time_at(words)]


def _end_of_header(held: bytes) -> int:
    """After the line that ends the header, or after the last line that could be of one where there is no such line."""
    at = 0
    while held.startswith(b"% ", at):
        end = held.find(b"\n", at)
        line, at = held[at:end], len(held) if end < 0 else end + 1
        if line.strip() == b"% end":
            break
    return at


def _version(file_name: StoredPath, header: str) -> str:
    named = re.search(r"^%\s*(?:evt\s+|format\s+evt)(\d)\.?(\d?)", header, re.MULTILINE)
    if named is None:
        raise FormatError(f"{file_name} is not a RAW file of EVT: its header has no line '% evt <version>'.")
    version = f"{named[1]}.{named[2] or 0}"
    if version not in WORDS:
        raise FormatError(
            f"{file_name} is of EVT {version}; {', '.join(WORDS)} can be read. Convert it to one of them."
        )
    if "endianness=big" in header:
        raise FormatError(f"{file_name} is big-endian; only little-endian files can be read. Convert it.")
    return version


def _last(where: Array) -> Array:
    """At each word the place of the last one, up to it, for which `where` holds; -1 where there is none."""
    return np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))


def _high_bits(kind: Array, values: Array, bits: int, before: int) -> Array:
    """At each word the high bits of the time, going on where they start again at 0; -1 before the first.

    `before` is how often they have started again before these words.
    """
    is_high = kind == TIME_HIGH
    high = values[is_high].astype(np.int64)
    fallen = np.diff(high, prepend=high[:1]) < -(1 << (bits - 1))  # less than half of the range is an error of a camera
    return np.append(high + (before + np.cumsum(fallen) << bits), -1)[np.cumsum(is_high) - 1]


def _pixels(masks: Array) -> tuple[Array, Array]:
    """Of each bit that is 1 its word, and its place from the lowest one on."""
    width = 8 * masks.itemsize
    places = np.flatnonzero(np.unpackbits(np.ascontiguousarray(masks).view(np.uint8), bitorder="little"))
    return places // width, places % width


Events = dict[str, Array]
Read = Callable[[Array, int], tuple[Events, Array]]
"""From words, and how often the time started again before them, to their events, and the high bits at each word."""


def _events(t: Array, x: Array, y: Array, p: Array) -> Events:
    return {name: np.asarray(values, np.int64) for name, values in zip("txyp", (t, x, y, p), strict=True)}


def _evt2(words: Array, before: int) -> tuple[Events, Array]:
    """Types 0 (OFF) and 1 (ON): bits 22 to 27 are the low ones of the time, 11 to 21 x, 0 to 10 y."""
    kind = words >> 28
    high = _high_bits(kind, words & 0xFFFFFFF, 28, before)
    taken = (kind <= 1) & (high >= 0)
    return _of_words(words[taken], high[taken], 0), high


def _of_words(held: Array, high: Array, pixel: Array | int) -> Events:
    return _events(high << 6 | held >> 22 & 0x3F, (held >> 11 & 0x7FF) + pixel, held & 0x7FF, held >> 28)


def _halves(file_name: StoredPath, words: Array, turned: bool) -> tuple[Array, Array]:
    """The halves of the words of EVT 2.1: one as a word of EVT 2.0, and a bit for each of the 32 pixels from x on.

    Some cameras send them in the other order, which the header, or else the types, tell.
    """
    lower, upper = np.ascontiguousarray(words).view("<u4").reshape(-1, 2).T
    if turned or not np.isin(upper >> 28, KNOWN_TO_EVT21).all():
        upper, lower = lower, upper
    if not np.isin(upper >> 28, KNOWN_TO_EVT21).all():
        raise FormatError(f"{file_name} is damaged, or no EVT 2.1: it has words of types that there are not.")
    return upper, lower


def _evt21(words: Array, before: int) -> tuple[Events, Array]:
    """As EVT 2.0, with an event for each pixel whose bit is 1."""
    upper, lower = words.T
    kind = upper >> 28
    high = _high_bits(kind, upper & 0xFFFFFFF, 28, before)
    taken = (kind <= 1) & (high >= 0)
    word, pixel = _pixels(lower[taken])
    return _of_words(upper[taken][word], high[taken][word], pixel), high


def _evt3(words: Array, begun: int) -> tuple[Events, Array]:
    """Each word changes one thing: 0 the row, 6 and 8 the time, 3 the column and polarity of the vectors that follow.

    2 is an event at a column, 4 and 5 are vectors of 12 and 8 pixels, after which the column is so much further; after
    a row of type 1, which is of another sensor, they are not of ours.
    """
    kind, values = words >> 12, words & 0xFFF
    high, low, row, base = _high_bits(kind, values, 12, begun), _last(kind == 6), _last(kind <= 1), _last(kind == 3)
    width = np.select([kind == 4, kind == 5], [12, 8], 0)
    before = np.cumsum(width) - width
    single = kind == 2
    taken = np.flatnonzero((single | (width > 0) & (base >= 0)) & (high >= 0) & (row >= 0) & (kind[row] == 0))
    masks = np.where(single, 1, np.where(kind == 5, values & 0xFF, values)).astype("<u2")[taken]
    word, pixel = _pixels(masks)
    at = taken[word]
    head = np.where(single[at], at, base[at])  # the word that has column and polarity
    gone = np.where(single[at], 0, before[at] - before[head])
    is_later = low > _last(kind == TIME_HIGH)  # new high bits are followed by new low ones
    t = high[at] << 12 | np.where(is_later[at], values[low[at]], 0)
    return _events(t, (values[head] & 0x7FF) + gone + pixel, values[row[at]] & 0x7FF, values[head] >> 11), high


def _state_of_evt3(words: Array) -> Array:
    """The words that say what holds after these: of the time, of the row, of the column of the next vector."""
    kind = words >> 12
    high, low, row, base = (np.flatnonzero(where)[-1:] for where in (kind == 8, kind == 6, kind <= 1, kind == 3))
    low = low[low > high] if len(high) else low[:0]
    vectors = kind[base[0] :] if len(base) else kind[:0]
    column = (words[base] & 0x7FF).astype(np.int64) + 12 * (vectors == 4).sum() + 8 * (vectors == 5).sum()
    base = (words[base] & 0xF800 | column)[column < 2048].astype(words.dtype)
    return np.concatenate([words[high], words[low], words[row], base])
