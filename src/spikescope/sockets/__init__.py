"""Sockets: where a value of a module comes out to whoever listens, in eager and in compiled code."""

from .core import (
    KINDS,
    Ear,
    Entry,
    Exit,
    are_bare,
    at_rest,
    forget,
    found_sockets,
    hear,
    instrument,
    is_bare,
    is_watched,
    place_sockets,
    subscribe,
    unsubscribe,
)
from .points import Point, Signal, Subscriber

__all__ = [
    "KINDS",
    "Ear",
    "Entry",
    "Exit",
    "Point",
    "Signal",
    "Subscriber",
    "are_bare",
    "at_rest",
    "forget",
    "found_sockets",
    "hear",
    "instrument",
    "is_bare",
    "is_watched",
    "place_sockets",
    "subscribe",
    "unsubscribe",
]
