"""What a slow sweep leaves out of the usual run, which `make test-all` runs whole."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

WHOLE = os.environ.get("SPIKESCOPE_TEST_ALL") == "1"
"""Whether all was asked for."""


def sample(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """All cases where all was asked for, else those kept: one of each kind among them."""
    cases = list(cases)
    strangers = [case for case in kept if case not in cases]
    assert not strangers, f"no cases of the sweep: {strangers}"
    return cases if WHOLE else list(kept)


def covering(items: Iterable[Any]) -> Iterator[Any]:
    """Of each parametrised test so many cases that every value of every axis is in one; the others as they are.

    Of one that is marked `slow(keep=...)`, only that many cases. Which they are follows from their names, and is
    the same at every run. A table of cases, whose axes go together, stays whole.
    """
    met: dict[str, set[tuple[int, str]]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for item in sorted(items, key=lambda item: crc32(item.nodeid.encode())):
        test = item.nodeid.partition("[")[0]
        held, slow = getattr(item, "callspec", None), item.get_closest_marker("slow")
        axes = set() if held is None else set(enumerate(held._idlist))
        if count[test] < slow.kwargs["keep"] if slow else held is None or not axes <= met[test]:
            met[test] |= axes
            count[test] += 1
            yield item
