"""Events of an open AEDAT 2.0 file, whose addresses are read by masks: unless others are given, of a DAVIS camera."""

from __future__ import annotations

from typing import Any, BinaryIO

from ..datasets.formats.aedat2 import pairs_of, text_end
from ..errors import check_whole

__all__ = [
    "EVT_APS",
    "EVT_DVS",
    "load_events",
    "load_raw_events",
    "parse_raw_address",
    "polarity_mask",
    "polarity_shift",
    "read_bits",
    "skip_header",
    "valid_mask",
    "valid_shift",
    "x_mask",
    "x_shift",
    "y_mask",
    "y_shift",
]

EVT_DVS, EVT_APS = 0, 1  # what the highest bit of an address says: a change, or a frame of the camera
y_mask, y_shift = 0x7FC00000, 22
x_mask, x_shift = 0x003FF000, 12
polarity_mask, polarity_shift = 0x00000800, 11
valid_mask, valid_shift = 0x80000000, 31


def read_bits(arr: Any, mask: int | None = None, shift: int | None = None) -> Any:
    """The bits of `mask`, shifted down by `shift`."""
    held = arr if mask is None else arr & mask
    return held if shift is None else held >> shift


def skip_header(fp: BinaryIO) -> int:
    """Where the events begin, behind the lines of text."""
    return text_end(_read("skip_header", fp))


def _read(owner: str, fp: BinaryIO) -> bytes:
    """All of an open file."""
    held = None
    if hasattr(fp, "seek") and hasattr(fp, "read"):
        fp.seek(0)
        held = fp.read()
    if not isinstance(held, bytes):
        raise TypeError(f"{owner} reads a file that is open for reading bytes, open(name, 'rb'), but got {fp!r}.")
    return held


def load_raw_events(
    fp: BinaryIO, bytes_skip: int = 0, bytes_trim: int = 0, filter_dvs: bool = False, times_first: bool = False
) -> tuple[Any, Any]:
    """Times and addresses.

    - `bytes_skip`, `bytes_trim`: how much to leave out behind the text, and at the end.
    - `filter_dvs`: leave out what is no change of brightness.
    - `times_first`: whether a time comes before its address.
    """
    held = _read("load_raw_events", fp)
    skip = check_whole("load_raw_events", "bytes_skip", bytes_skip, least=0)
    trim = check_whole("load_raw_events", "bytes_trim", bytes_trim, least=0)
    begin = text_end(held)
    if begin + skip + trim > len(held):
        raise ValueError(
            f"load_raw_events: bytes_skip={skip} and bytes_trim={trim} are more than the {len(held) - begin} bytes "
            "that there are behind the text."
        )
    pairs = pairs_of(held[: len(held) - trim], begin + skip, getattr(fp, "name", "the file"))
    address, time = (pairs[1::2], pairs[::2]) if times_first else (pairs[::2], pairs[1::2])
    if filter_dvs:
        kept = read_bits(address, valid_mask, valid_shift) == EVT_DVS
        address, time = address[kept], time[kept]
    return time, address


def parse_raw_address(
    addr: Any,
    x_mask: int | None = x_mask,
    x_shift: int | None = x_shift,
    y_mask: int | None = y_mask,
    y_shift: int | None = y_shift,
    polarity_mask: int | None = polarity_mask,
    polarity_shift: int | None = polarity_shift,
) -> tuple[Any, Any, Any]:
    """x, y and polarity, True or False, of addresses."""
    polarity = read_bits(addr, polarity_mask, polarity_shift).astype(bool)
    return read_bits(addr, x_mask, x_shift), read_bits(addr, y_mask, y_shift), polarity


def load_events(fp: BinaryIO, filter_dvs: bool = False, **masks: int | None) -> tuple[Any, Any, Any, Any]:
    """Times, x, y and polarity; `masks` are the arguments of `parse_raw_address`."""
    time, address = load_raw_events(fp, filter_dvs=filter_dvs)
    return time, *parse_raw_address(address, **masks)
