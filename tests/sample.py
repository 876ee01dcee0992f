"""What a slow sweep leaves out of the usual run, which `make test-all` runs whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

WHOLE = os.environ.get("SPIKESCOPE_TEST_ALL") == "1"
"""Whether all was asked for."""


def sample(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """All cases where all was asked for, else those kept: one of each kind among them."""
    cases = list(cases)
    strangers = [case for case in kept if case not in cases]
    assert not strangers, f"no cases of the sweep: {strangers}"
    return cases if WHOLE else list(kept)
