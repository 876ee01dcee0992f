"""Whole numbers on the command line."""

from __future__ import annotations

import argparse

__all__ = ["count", "threads"]

_MOST_THREADS = 1024


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, but got {text!r}")
    return int(text)


def threads(text: str) -> int:
    """A number of threads; with very many OpenMP ends the process without a word."""
    number = count(text)
    if number > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"at most {_MOST_THREADS} threads are possible, but got {text}")
    return number
