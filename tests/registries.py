"""Keeping what a test defines out of the registries, over which others run, and what it installs out of imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from spikescope import compat, monitor, neuron, surrogate

REGISTRIES = neuron.registry, surrogate.registry, monitor.reduce.registry


@contextmanager
def apart() -> Iterator[None]:
    """Classes that are defined meanwhile leave the registries at the end, and import aliases are taken away."""
    before, finders = [dict(registry) for registry in REGISTRIES], list(sys.meta_path)
    try:
        yield
    finally:
        if sys.meta_path != finders:
            compat.uninstall()
        for registry, held in zip(REGISTRIES, before, strict=True):
            if registry != held:
                registry.clear()
                registry.update(held)
