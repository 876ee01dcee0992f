"""The exceptions of this room, and the one for whatever a package makes of a damaged file."""

from __future__ import annotations

import errno
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UnknownNameError

__all__ = [
    "ConversionError",
    "EventsError",
    "FormatError",
    "MissingFilesError",
    "OptionError",
    "UnsortedWarning",
    "damage_told",
]


MOST_SAID = 300
"""Characters of what a package says: some repeat bytes of the file, thousands of them."""


class EventsError(ValueError):
    """Events that cannot be used as they are: none at all, of unequal lengths, or outside the sensor."""


class FormatError(EventsError):
    """A file that is not what its format says: cut off, damaged, or of another format."""


class OptionError(UnknownNameError, AssertionError):
    """Arguments of a data set that do not fit: also the errors that SpikingJelly raises."""


class MissingFilesError(FileNotFoundError, NotImplementedError):
    """Files of a data set that somebody has to fetch: also the error that SpikingJelly raises."""


class ConversionError(RuntimeError):
    """A conversion that could not convert all of its files."""


class UnsortedWarning(UserWarning):
    """Events that are not in order of time."""


@contextmanager
def damage_told(file_name: str | os.PathLike[str], what: str, advice: str = "") -> Iterator[None]:
    """A block in which a package reads a file: what it raises becomes a FormatError that names the file.

    What a hostile file makes a package raise is no closed list. An error of the system, such as that a file is not
    there or the disk full, stays one.

    >>> with damage_told("a.txt", "a number"):
    ...     int("one")
    Traceback (most recent call last):
    spikescope.datasets.faults.FormatError: a.txt cannot be read as a number: invalid literal ... 'one'. It may be ...
    """
    try:
        yield
    except FormatError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # it seeks before the first byte
            if error.filename is None:
                error.filename = os.fspath(file_name)
            raise
        said = textwrap.shorten(str(error), MOST_SAID, placeholder=" ...") or type(error).__name__
        raise FormatError(
            f"{file_name} cannot be read as {what}: {said}. It may be cut off or damaged{advice}."
        ) from error
