"""Keeping what a test defines out of the registries, over which other tests run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spikescope import monitor, neuron, surrogate

REGISTRIES = neuron.registry, surrogate.registry, monitor.reduce.registry


@contextmanager
def apart() -> Iterator[None]:
    """Classes that are defined meanwhile leave the registries at the end."""
    before = [dict(registry) for registry in REGISTRIES]
    try:
        yield
    finally:
        for registry, held in zip(REGISTRIES, before, strict=True):
            if registry != held:
                registry.clear()
                registry.update(held)
