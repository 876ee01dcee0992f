"""The exceptions of this room."""

from __future__ import annotations

from ..errors import UnknownNameError

__all__ = ["ConversionError", "EventsError", "FormatError", "MissingFilesError", "OptionError", "UnsortedWarning"]


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
